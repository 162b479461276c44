// Two customers want the last ones. The second one's page is old (scripts are off), so it still offers them.
import assert from 'node:assert/strict';
import { buy, expectOrder, giveBack, openStore, orderUrl, scarce } from '../shop.mjs';

export default async function (browser) {
  const first = await browser.newPage();
  const second = await browser.newPage({ javaScriptEnabled: false });
  const watching = await browser.newPage();
  const article = scarce(await openStore(browser, first));
  await openStore(browser, second);
  await openStore(browser, watching);

  await buy(browser, first, article, article.available);
  await watching.locator(`#stock-${article.sku}`, { hasText: 'Sold out' }).waitFor();
  const button = watching.getByRole('button', { name: `Buy ${article.name}` });
  assert.ok(await button.isDisabled(), 'a sold out article cannot be bought');
  await browser.screenshot(watching, 'sold-out');

  await second.getByRole('button', { name: `Buy ${article.name}` }).click();
  await second.waitForURL(`${browser.shopUrl}/checkout/**`);
  await expectOrder(second, 'out_of_stock');
  const text = await second.locator('main').innerText();
  assert.ok(text.includes(`${article.name}: you wanted 1, there is none left.`), text);
  await browser.screenshot(second, 'out-of-stock');
  await giveBack(browser, first, await orderUrl(browser, first));
}
