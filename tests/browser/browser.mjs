// Chromium, its pages, and what they complain about.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

// Longer than a slow machine needs for anything that the shop does by itself.
export const PATIENCE_MS = 30_000;

export class Browser {
  static async start(journey) {
    const browser = new Browser(journey);
    const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
    browser.chromium = await chromium.launch({ executablePath, args: FLAGS });
    return browser;
  }

  constructor(journey) {
    this.journey = journey;
    this.shopUrl = required('SHOP_URL').replace(/\/$/, '');
    this.paymentUrl = required('PAYMENT_URL').replace(/\/$/, '');
    this.complaints = [];
    this.screenshots = 0;
  }

  // A new visitor; `options` as playwright's newContext takes them.
  async visitor(options = {}) {
    const context = await this.chromium.newContext({ viewport: { width: 1200, height: 900 }, ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    context.on('page', (page) => this.listenTo(page));
    return context;
  }

  async newPage(options) {
    return (await this.visitor(options)).newPage();
  }

  listenTo(page) {
    page.on('pageerror', (error) => this.complaints.push(`script error on ${page.url()}: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(`console on ${page.url()}: ${message.text()}`);
    });
  }

  // While the shop is away, pages may say that they cannot reach it.
  async withComplaintsAllowed(work) {
    const before = this.complaints.length;
    await work();
    this.complaints.length = before;
  }

  expectNoComplaints() {
    assert.deepEqual(this.complaints, [], 'a page complained (script errors, broken links, content security policy)');
  }

  async screenshot(page, what) {
    const folder = process.env.SCREENSHOT_DIR;
    if (!folder) return;
    mkdirSync(folder, { recursive: true });
    this.screenshots += 1;
    await page.screenshot({ path: `${folder}/${this.journey}-${this.screenshots}-${what}.png`, fullPage: true });
  }

  // What could be seen when a journey failed.
  async describeOpenPages() {
    for (const page of this.chromium.contexts().flatMap((context) => context.pages())) {
      const text = await page.locator('main').innerText({ timeout: 1000 }).catch(() => '(no main)');
      console.error(`--- ${page.url()}\n${text}`);
      await this.screenshot(page, 'failed').catch(() => {});
    }
    if (this.complaints.length > 0) console.error(`--- complaints\n${this.complaints.join('\n')}`);
  }

  async stop() {
    await this.chromium.close();
  }
}

// Ask whoever started us to do something with the servers; see journey.mjs.
let lines;
export async function ask(what) {
  lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  console.log(`@${what}`);
  const { value, done } = await lines.next();
  assert.ok(!done, `asked for @${what}, but standard input ended: this journey needs somebody who answers "done"`);
  assert.equal(value.trim(), 'done', `asked for @${what}`);
}

export function required(variable) {
  const value = process.env[variable];
  assert.ok(value, `the environment variable ${variable} is not set; see journey.mjs`);
  return value;
}
