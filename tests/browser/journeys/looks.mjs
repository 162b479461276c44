// Light, dark and a small phone: nothing sticks out, everything can be read, everything has a name.
import assert from 'node:assert/strict';
import { buy, giveBack, openStore, orderUrl, plentiful } from '../shop.mjs';
import { faintTexts, namelessControls, sticksOut } from '../checks.mjs';

const WAYS = {
  light: { colorScheme: 'light' },
  dark: { colorScheme: 'dark' },
  phone: { colorScheme: 'light', viewport: { width: 360, height: 740 }, deviceScaleFactor: 2 },
};

export default async function (browser) {
  const buyer = await browser.newPage();
  await buy(browser, buyer, plentiful(await openStore(browser, buyer)));
  const order = await orderUrl(browser, buyer);
  const pages = { store: `${browser.shopUrl}/`, order, payment: buyer.url() };

  for (const [way, options] of Object.entries(WAYS)) {
    const page = await browser.newPage(options);
    for (const [name, url] of Object.entries(pages)) {
      await page.goto(url);
      await browser.screenshot(page, `${name}-${way}`);
      const where = `${name}, ${way}`;
      assert.equal(await page.evaluate(sticksOut), 0, `${where}: the page is wider than the window`);
      assert.deepEqual(await page.evaluate(faintTexts), [], `${where}: less contrast than 4.5 : 1`);
      assert.deepEqual(await page.evaluate(namelessControls), [], `${where}: controls without a name`);
      assert.equal(await page.locator('h1').count(), 1, `${where}: one headline`);
      assert.equal(await page.locator('main').count(), 1, `${where}: one main landmark`);
    }
  }
  await giveBack(browser, buyer, order);
}
