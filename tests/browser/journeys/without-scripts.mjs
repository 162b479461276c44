// Scripts are off: the same forms and links lead to a paid order, and the page follows it by reloading.
import { buy, decideAt, expectOrder, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const visitor = await browser.visitor({ javaScriptEnabled: false });
  const [payment, order] = [await visitor.newPage(), await visitor.newPage()];
  await buy(browser, payment, plentiful(await openStore(browser, payment)));
  await order.goto(await orderUrl(browser, payment));
  await expectOrder(order, 'awaiting_payment');
  await decideAt(browser, payment, /^Pay/);
  await expectOrder(order, 'paid');
  await expectOrder(payment, 'paid');
}
