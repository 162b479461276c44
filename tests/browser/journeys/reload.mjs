// Reload in the middle, go back, come from another device: always the same order, never a second one.
import assert from 'node:assert/strict';
import { buy, decideAt, expectOrder, expectStock, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const page = await browser.newPage();
  const article = plentiful(await openStore(browser, page));
  await buy(browser, page, article);
  const url = await orderUrl(browser, page);
  await page.reload();
  assert.equal(await orderUrl(browser, page), url, 'a reloaded payment page belongs to the same order');

  const order = await browser.newPage();
  await order.goto(url);
  await expectOrder(order, 'awaiting_payment');
  await order.reload();
  await expectOrder(order, 'awaiting_payment');

  const paymentUrl = page.url();
  await decideAt(browser, page, /^Pay/);
  await expectOrder(order, 'paid');
  await order.reload();
  await expectOrder(order, 'paid');
  await page.goto(paymentUrl);
  await page.getByRole('heading', { name: 'Paid', exact: true }).waitFor();

  const elsewhere = await browser.newPage();
  await elsewhere.goto(url);
  await expectOrder(elsewhere, 'paid');
  await openStore(browser, elsewhere);
  await expectStock(elsewhere, article, article.available - 1);
}
