// The customer cancels in the shop: the payment page closes, and the article is back on the shelf.
import assert from 'node:assert/strict';
import { buy, expectOrder, expectStock, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const visitor = await browser.visitor();
  const [payment, order] = [await visitor.newPage(), await visitor.newPage()];
  const article = plentiful(await openStore(browser, payment));
  await buy(browser, payment, article);
  await order.goto(await orderUrl(browser, payment));
  await expectOrder(order, 'awaiting_payment');
  await order.getByRole('button', { name: 'Cancel the order' }).click();
  await expectOrder(order, 'cancelled');
  await browser.screenshot(order, 'cancelled');
  await payment.reload();
  assert.equal(await payment.getByRole('button').count(), 0, 'nobody can pay any more');
  await openStore(browser, order);
  await expectStock(order, article, article.available);
}
