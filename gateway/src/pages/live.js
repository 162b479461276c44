// Keeps an open page up to date. Everything works without it; it only saves pressing "reload".
'use strict';

// How often the store asks for the stock.
const STOCK_EVERY_MS = 4000;
// How long to wait before a broken line is opened again.
const RECONNECT_AFTER_MS = 2000;
// Several events of one decision arrive together: fetch once for all of them.
const GATHER_MS = 60;

document.addEventListener('DOMContentLoaded', () => {
  showLocalTimes(document);
  const articles = document.querySelector('[data-poll]');
  if (articles) followStock(articles.dataset.poll);
  if (document.querySelector('[data-events]')) followOrder();
});

// A page that comes back from the browser's memory is a new page view: it may buy again.
window.addEventListener('pageshow', (event) => {
  if (event.persisted && document.querySelector('input[name=idempotency_key]')) location.reload();
});

// ---- The store ----

function followStock(address) {
  const ask = async () => {
    if (document.hidden) return;
    const news = await fetchDocument(address).catch(() => null);
    if (news) takeInStock(news);
  };
  setInterval(ask, STOCK_EVERY_MS);
  document.addEventListener('visibilitychange', ask);
}

// Swap the words; of the form take only the limits, so that what somebody is typing stays.
function takeInStock(news) {
  for (const now of news.querySelectorAll('[data-live]')) {
    const shown = document.getElementById(now.id);
    if (shown && shown.textContent !== now.textContent) shown.replaceWith(document.adoptNode(now));
  }
  for (const field of document.querySelectorAll('[data-live-limits]')) {
    const now = news.getElementById(field.id);
    if (!now) continue;
    field.disabled = now.disabled;
    if (now.max) field.max = now.max;
  }
}

// ---- The order page ----

function followOrder() {
  let events = null;
  let gathering = null;
  const order = () => document.getElementById('order');
  const isSettled = () => order().dataset.settled === 'true';

  const refresh = async () => {
    gathering = null;
    try {
      const news = await fetchDocument(order().dataset.fragment);
      showConnection(true);
      takeInOrder(news.getElementById('order'));
    } catch {
      showConnection(false);
      refreshSoon(RECONNECT_AFTER_MS);
    }
    if (isSettled() && events) events.close();
  };
  const refreshSoon = (delay = GATHER_MS) => {
    gathering ??= setTimeout(refresh, delay);
  };
  const listen = () => {
    events = new EventSource(order().dataset.events);
    events.onopen = () => refreshSoon();
    events.onmessage = () => refreshSoon();
    events.onerror = () => {
      // Never hammer: close, look how the order stands, and open again only while there is news to come.
      events.close();
      if (isSettled()) return;
      refreshSoon(RECONNECT_AFTER_MS);
      setTimeout(() => isSettled() || listen(), RECONNECT_AFTER_MS);
    };
  };

  if (!isSettled()) listen();
  setInterval(countDown, 250);
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && !isSettled()) refreshSoon();
  });
}

function takeInOrder(now) {
  const shown = document.getElementById('order');
  if (!now || Number(now.dataset.revision) <= Number(shown.dataset.revision)) return;
  const focused = shown.contains(document.activeElement) ? document.activeElement.id : null;
  shown.replaceWith(document.adoptNode(now));
  showLocalTimes(now);
  const headline = document.getElementById('headline');
  // Who had the focus inside keeps it; if that button is gone, the headline says why.
  if (focused !== null) (document.getElementById(focused) ?? headline).focus({ preventScroll: true });
  document.title = document.title.replace(/^.* · /, `${headline.textContent} · `);
  const announcement = document.getElementById('announcement');
  if (announcement.textContent !== headline.textContent) announcement.textContent = headline.textContent;
}

function showConnection(works) {
  const note = document.getElementById('connection');
  if (note.hidden !== works) note.hidden = works;
}

// The server's clock counts: the page says what time it was there when it was written.
let clockOffset = null;
let clockOf = null;
function countDown() {
  const order = document.getElementById('order');
  if (clockOf !== order) {
    clockOf = order;
    clockOffset ??= Date.parse(order.dataset.now) - Date.now();
  }
  const timer = order.querySelector('[data-countdown]');
  if (!timer) return;
  const left = Math.max(0, Math.ceil((Date.parse(timer.dataset.countdown) - Date.now() - clockOffset) / 1000));
  const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
  if (timer.textContent !== text) timer.textContent = text;
  timer.toggleAttribute('data-hurry', left <= 30);
}

// ---- Both ----

async function fetchDocument(address) {
  const answer = await fetch(address, { headers: { Accept: 'text/html' }, cache: 'no-store' });
  if (!answer.ok) throw new Error(`${address} answered ${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

// Times are written in UTC; show them as the reader's clock does.
function showLocalTimes(root) {
  const formats = {
    time: { timeStyle: 'medium' },
    day: { dateStyle: 'long', timeStyle: 'medium' },
  };
  for (const time of root.querySelectorAll('time[data-local]')) {
    const format = formats[time.dataset.local];
    if (format) time.textContent = new Intl.DateTimeFormat(undefined, format).format(new Date(time.dateTime));
  }
}
