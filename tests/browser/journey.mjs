// One journey through the shop in a real Chromium: `node journey.mjs <name>`; without a name, lists the names.
//
// Environment:
//   SHOP_URL        where the shop is, such as http://127.0.0.1:8082 (required)
//   PAYMENT_URL     where the sandbox's payment pages are, such as http://127.0.0.1:8086 (required)
//   OPERATOR_TOKEN  the operator token (only for the journey `operator`)
//   SCREENSHOT_DIR  where pictures are kept; none are taken without it
//   CHROMIUM        the browser, default /usr/bin/chromium
//
// Exit code 0 when the journey went well, 1 when not; what failed is printed.
//
// `restart` needs help from whoever started the shop. It prints a line that begins with `@` and waits for the line
// `done` on standard input:
//   @kill    kill everything (shop, workers, sandbox) as if the power went out
//   @start   start everything again, on the same addresses and the same data
//
// `expire` needs a shop whose payment timeout is short (6 s will do); all others need one of at least a minute. The
// sandbox must know where the shop is, since the way back from a payment page is part of every journey. Journeys
// compare the stock, so they run one after the other.

import { readdirSync } from 'node:fs';
import { Browser } from './browser.mjs';

const journeys = readdirSync(new URL('./journeys', import.meta.url)).map((file) => file.replace(/\.mjs$/, ''));
const name = process.argv[2];

if (!name) {
  console.log(journeys.join('\n'));
} else if (!journeys.includes(name)) {
  console.error(`there is no journey ${name}: one of ${journeys.join(', ')}`);
  process.exitCode = 1;
} else {
  await run(name);
}

async function run(name) {
  const { default: journey } = await import(`./journeys/${name}.mjs`);
  let browser;
  try {
    browser = await Browser.start(name);
    await journey(browser);
    browser.expectNoComplaints();
    console.log(`${name}: ok`);
  } catch (error) {
    console.error(`${name}: FAILED\n${error.stack}`);
    await browser?.describeOpenPages();
    process.exitCode = 1;
  } finally {
    await browser?.stop();
    // Standard input would keep the process alive.
    process.stdin.destroy();
  }
}
