// The operator sees nothing without the token, and with it the checkout that was just started, record by record.
import assert from 'node:assert/strict';
import { required } from '../browser.mjs';
import { buy, giveBack, openStore, orderUrl, plentiful } from '../shop.mjs';

export default async function (browser) {
  const page = await browser.newPage();
  await buy(browser, page, plentiful(await openStore(browser, page)));
  const order = await orderUrl(browser, page);
  const id = order.split('/').pop();
  const refused = await page.request.get(`${browser.shopUrl}/operator`);
  assert.equal(refused.status(), 401, 'without the token');

  const operator = await browser.newPage();
  await browser.withComplaintsAllowed(async () => {
    await operator.goto(`${browser.shopUrl}/operator`);
    await signIn(operator, 'not the token');
    await operator.getByRole('alert').waitFor();
    await browser.screenshot(operator, 'sign-in');
  });
  await signIn(operator, required('OPERATOR_TOKEN'));
  await operator.getByRole('heading', { name: 'Latest checkouts' }).waitFor();
  await browser.screenshot(operator, 'overview');
  await operator.getByRole('link', { name: id }).first().click();
  const record = operator.getByText('checkout_started');
  await record.first().click();
  assert.match(await operator.locator('pre').first().innerText(), /"lines"/);
  await browser.screenshot(operator, 'checkout');
  await giveBack(browser, page, order);
}

async function signIn(page, token) {
  await page.getByLabel('Operator token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
}
