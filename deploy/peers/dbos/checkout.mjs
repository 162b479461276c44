// The unit of work of `PERFORMANCE` on DBOS: a workflow that takes the goods in a transaction of its data source, opens a
// payment session, waits until it is paid, and books the sale. Leaves out what only costs DBOS time: there is no deadline,
// and an article keeps two numbers, not who has reserved it. Customers and workflows are one process, as DBOS is used.
//
// `node checkout.mjs POSTGRES_URL IN_FLIGHT SKUS WARM_UP MEASURE` prints one line of JSON.

import { DBOS } from "@dbos-inc/dbos-sdk";
import { PostgresDataSource } from "@dbos-inc/postgres-datasource";

const [url, ...numbers] = process.argv.slice(2);
const [inFlight, skus, warmUp, measure] = numbers.map(Number);
const PATIENCE_SECONDS = 120;

const database = new URL(url);
const options = {
  host: database.hostname, port: Number(database.port), user: database.username, database: database.pathname.slice(1),
  onnotice: () => {},
};
const shop = new PostgresDataSource("shop", options);
await PostgresDataSource.initializeDBOSSchema(options);

const reserve = shop.registerTransaction(async (sku) => {
  const taken = await shop.client`update article set free = free - 1 where sku = ${sku} and free > 0 returning sku`;
  return taken.length === 1;
}, { name: "reserve" });
const sell = shop.registerTransaction(async (sku) => {
  await shop.client`update article set sold = sold + 1 where sku = ${sku}`;
}, { name: "sell" });

const checkout = DBOS.registerWorkflow(async (sku) => {
  if (!await reserve(sku)) return "out_of_stock";
  const open = async () => `http://127.0.0.1/payment/cs_${DBOS.workflowID}`;
  const session = await DBOS.runStep(open, { name: "open" });
  await DBOS.setEvent("session", session);
  if (await DBOS.recv("paid", PATIENCE_SECONDS) !== true) return "expired";
  await sell(sku);
  return "paid";
}, { name: "checkout" });

DBOS.setConfig({ name: "checkout", systemDatabaseUrl: url, logLevel: "error", runAdminServer: false });
await DBOS.launch();
await shop.runTransaction(async () => {
  await shop.client`create table if not exists article (sku text primary key, free bigint not null, sold bigint not null)`;
  for (let sku = 0; sku < skus; sku += 1) {
    await shop.client`insert into article values (${`SKU-${sku}`}, 1000000000, 0) on conflict do nothing`;
  }
});

let next = 0;
const run = Date.now();
const flights = [];

async function buy() {
  const number = next;
  next += 1;
  const workflowID = `${run}-${number}`;
  const started = performance.now();
  const handle = await DBOS.startWorkflow(checkout, { workflowID })(`SKU-${number % skus}`);
  const session = await DBOS.getEvent(workflowID, "session", PATIENCE_SECONDS);
  if (session === null) throw new Error(`checkout ${workflowID} has no session`);
  const gotSession = performance.now();
  await DBOS.send(workflowID, true, "paid");
  const end = await handle.getResult();
  if (end !== "paid") throw new Error(`checkout ${workflowID} ended as ${end}`);
  return [gotSession - started, performance.now() - started];
}

const begin = performance.now() + warmUp * 1000;
const end = begin + measure * 1000;
async function customer() {
  while (performance.now() < end) {
    const flight = await buy();
    const now = performance.now();
    if (now >= begin && now < end) flights.push(flight);
  }
}
await Promise.all(Array.from({ length: inFlight }, customer));

function quantile(place, percent) {
  const times = flights.map((flight) => flight[place]).sort((a, b) => a - b);
  return times[Math.min(times.length - 1, Math.floor((times.length * percent) / 100))] ?? null;
}
console.log(JSON.stringify({
  per_second: flights.length / measure,
  to_session_p50_ms: quantile(0, 50), to_session_p99_ms: quantile(0, 99),
  to_settled_p50_ms: quantile(1, 50), to_settled_p99_ms: quantile(1, 99),
}));
await DBOS.shutdown();
process.exit(0);
