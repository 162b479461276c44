// What a customer does and sees, in the words of the pages.

import assert from 'node:assert/strict';
import { PATIENCE_MS } from './browser.mjs';

// Words that only a customer who has paid may read.
const SUCCESS = /Thank you|is paid|The items are yours/;

export const HEADLINES = {
  awaiting_payment: 'Your items are waiting for you',
  paid: 'Thank you! Your order is paid',
  declined: 'Your payment was declined',
  cancelled: 'This order was cancelled',
  expired: 'The time to pay ran out',
  out_of_stock: 'Sorry, there is not enough in stock',
};

// The articles of the store as a visitor reads them, with the stock as a number.
export async function articles(page) {
  const cards = await page.locator('article').all();
  return Promise.all(cards.map(async (card) => {
    const stock = await card.locator('.stock').innerText();
    return {
      sku: await card.locator('input[name=sku]').inputValue(),
      name: await card.locator('h2').innerText(),
      price: await card.locator('.price').innerText(),
      available: Number(stock.replace(/\D/g, '')),
    };
  }));
}

export async function openStore(browser, page) {
  await page.goto(`${browser.shopUrl}/`);
  const all = await articles(page);
  assert.ok(all.length > 0, 'the store is empty');
  return all;
}

// The article of which there is the most: buying one of it disturbs nobody.
export function plentiful(all) {
  return all.reduce((most, article) => (article.available > most.available ? article : most));
}

// The article of which there is the least, but some.
export function scarce(all) {
  const some = all.filter((article) => article.available > 0);
  return some.reduce((least, article) => (article.available < least.available ? article : least));
}

// Press Buy, and wait for the payment page.
export async function buy(browser, page, article, quantity = 1) {
  const card = page.locator('article', { has: page.locator(`input[name=sku][value="${article.sku}"]`) });
  await card.getByLabel('Quantity').fill(String(quantity));
  await card.getByRole('button', { name: `Buy ${article.name}` }).click();
  await page.waitForURL(`${browser.paymentUrl}/payment/**`);
  await page.getByText('No real money moves here.').waitFor();
}

// Where the order is that a payment page belongs to.
export async function orderUrl(browser, paymentPage) {
  const url = await paymentPage.getByRole('link', { name: 'Back to the shop' }).getAttribute('href');
  assert.match(url, new RegExp(`^${browser.shopUrl}/checkout/[0-9a-f-]{36}$`), 'the way back to the shop');
  return url;
}

// Undo an order that a journey leaves unpaid, so that its end does not move the stock under the next journey.
export async function giveBack(browser, page, order) {
  const id = order.split('/').pop();
  const answer = await page.request.post(`${browser.shopUrl}/api/checkout_session/${id}/cancel`);
  assert.equal(answer.status(), 200, `cancel ${id}: ${await answer.text()}`);
}

// Press a button of the payment page, and be led back to the order.
export async function decideAt(browser, paymentPage, button) {
  await paymentPage.getByRole('button', { name: button }).click();
  await paymentPage.waitForURL(`${browser.shopUrl}/checkout/**`);
}

// Wait until the order page says so by itself; success words only where they belong.
export async function expectOrder(page, status) {
  await page.locator('#headline', { hasText: HEADLINES[status] }).waitFor({ timeout: PATIENCE_MS });
  assert.equal(await page.locator('#order').getAttribute('data-status'), status);
  const text = await page.locator('main').innerText();
  assert.equal(SUCCESS.test(text), status === 'paid', `success words on the page of an order that is ${status}`);
  if (['declined', 'cancelled', 'expired', 'out_of_stock'].includes(status)) {
    assert.match(text, /You have not been charged/);
  }
}

// Wait until the store shows this many of an article, without being reloaded.
export async function expectStock(page, article, available) {
  const words = available === 0 ? 'Sold out' : new RegExp(`\\b${available.toLocaleString('en-US')} (in stock|left)`);
  await page.locator(`#stock-${article.sku}`, { hasText: words }).waitFor({ timeout: PATIENCE_MS });
}
