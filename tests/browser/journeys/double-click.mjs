// A nervous finger: the form is sent twice, and there is one order.
import assert from 'node:assert/strict';
import { expectStock, giveBack, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const visitor = await browser.visitor();
  const [page, watching] = [await visitor.newPage(), await visitor.newPage()];
  const article = plentiful(await openStore(browser, page));
  await openStore(browser, watching);

  // Each press opens its own tab, so that the second does not call the first off.
  const form = page.locator('form', { has: page.locator(`input[name=sku][value="${article.sku}"]`) });
  await form.evaluate((form) => form.setAttribute('target', '_blank'));
  const button = form.getByRole('button');
  const [first] = await Promise.all([visitor.waitForEvent('page'), button.click()]);
  const [second] = await Promise.all([visitor.waitForEvent('page'), button.click()]);
  for (const tab of [first, second]) await tab.waitForURL(`${browser.paymentUrl}/payment/**`);
  const order = await orderUrl(browser, first);
  assert.equal(await orderUrl(browser, second), order, 'both presses are the same order');
  await expectStock(watching, article, article.available - 1);
  await giveBack(browser, page, order);
}
