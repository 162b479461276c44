// Everything is killed between Buy and Pay, and started again. The open order page goes on by itself.
import { ask } from '../browser.mjs';
import { buy, decideAt, expectOrder, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const visitor = await browser.visitor();
  const [payment, order] = [await visitor.newPage(), await visitor.newPage()];
  await buy(browser, payment, plentiful(await openStore(browser, payment)));
  await order.goto(await orderUrl(browser, payment));
  await expectOrder(order, 'awaiting_payment');

  const connection = order.locator('#connection');
  await browser.withComplaintsAllowed(async () => {
    await ask('kill');
    await connection.waitFor({ state: 'visible' });
    await browser.screenshot(order, 'away');
    await ask('start');
    await connection.waitFor({ state: 'hidden' });
  });
  await expectOrder(order, 'awaiting_payment');

  await payment.reload();
  await decideAt(browser, payment, /^Pay/);
  await expectOrder(order, 'paid');
  await browser.screenshot(order, 'paid');
}
