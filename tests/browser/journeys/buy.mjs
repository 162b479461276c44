// Buy one article. Two other tabs watch, and are never reloaded: the store's stock, and the order.
import assert from 'node:assert/strict';
import { buy, decideAt, expectOrder, expectStock, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const visitor = await browser.visitor();
  const [shopping, store, order] = [await visitor.newPage(), await visitor.newPage(), await visitor.newPage()];
  const article = plentiful(await openStore(browser, shopping));
  await openStore(browser, store);
  await browser.screenshot(shopping, 'store');

  await buy(browser, shopping, article);
  assert.match(await shopping.locator('main').innerText(), new RegExp(article.price.replace('.', '\\.')));
  await browser.screenshot(shopping, 'payment');
  await expectStock(store, article, article.available - 1);

  await order.goto(await orderUrl(browser, shopping));
  await expectOrder(order, 'awaiting_payment');
  await expectCountdownToRun(order);
  await browser.screenshot(order, 'waiting');

  const paymentUrl = shopping.url();
  await decideAt(browser, shopping, /^Pay/);
  await expectOrder(order, 'paid');
  assert.equal(await order.locator('#announcement').innerText(), 'Thank you! Your order is paid');
  assert.equal(await order.locator('#pay, #cancel').count(), 0, 'a paid order can be neither paid nor cancelled');
  await expectOrder(shopping, 'paid');
  await browser.screenshot(shopping, 'paid');

  // Who finds the old payment page again cannot pay twice.
  await store.goto(paymentUrl);
  await store.getByRole('heading', { name: 'Paid', exact: true }).waitFor();
  assert.equal(await store.getByRole('button').count(), 0);
}

async function expectCountdownToRun(order) {
  const countdown = order.locator('[data-countdown]');
  const before = await countdown.innerText();
  assert.match(before, /^\d+:\d\d$/);
  await order.waitForFunction((text) => document.querySelector('[data-countdown]').textContent !== text, before);
}
