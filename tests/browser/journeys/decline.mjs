// The bank declines: nothing is charged, and the article is back on the shelf.
import { buy, decideAt, expectOrder, expectStock, openStore, plentiful } from '../shop.mjs';

export default async function (browser) {
  const page = await browser.newPage();
  const article = plentiful(await openStore(browser, page));
  await buy(browser, page, article);
  await decideAt(browser, page, 'Decline');
  await expectOrder(page, 'declined');
  await browser.screenshot(page, 'declined');
  await openStore(browser, page);
  await expectStock(page, article, article.available);
}
