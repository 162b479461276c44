// Nobody pays. The order page says so by itself, and the payment page is closed.
import assert from 'node:assert/strict';
import { buy, expectOrder, expectStock, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const visitor = await browser.visitor();
  const [payment, order] = [await visitor.newPage(), await visitor.newPage()];
  const article = plentiful(await openStore(browser, payment));
  await buy(browser, payment, article);
  await order.goto(await orderUrl(browser, payment));
  await expectOrder(order, 'expired');
  await browser.screenshot(order, 'expired');

  // The old payment page is still open: pressing Pay must not look like a success.
  await payment.getByRole('button', { name: /^Pay/ }).click();
  await payment.getByRole('heading', { name: 'Expired' }).waitFor();
  assert.equal(await payment.getByRole('button').count(), 0, 'nobody can pay any more');
  await browser.screenshot(payment, 'payment-expired');

  await openStore(browser, order);
  await expectStock(order, article, article.available);
}
