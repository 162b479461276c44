#!/usr/bin/env node
// The same unit of work on this shop, on Restate and on DBOS, in turns within the same minutes on the same machine.

import { spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const USAGE = `Compares this shop with Restate and DBOS: the same unit of work, in turns, on this machine.

usage: node deploy/peers/compare.mjs [options]

  --in-flight 1,64,256   checkouts in flight, for everybody
  --most 2000            checkouts in flight for this shop alone, held against the others' best
  --rounds 3             so many rounds; in each everybody has each case once
  --warm-up 3            seconds before measuring
  --measure 8            seconds of measuring
  --skus 100             articles
  --json-file FILE       every single figure

Needs cargo, npm, and PostgreSQL (Debian: postgresql). Installs and builds the rest below deploy/peers.`;

const OPTIONS = {
  "in-flight": { type: "string", default: "1,64,256" },
  most: { type: "string", default: "2000" },
  rounds: { type: "string", default: "3" },
  "warm-up": { type: "string", default: "3" },
  measure: { type: "string", default: "8" },
  skus: { type: "string", default: "100" },
  "json-file": { type: "string" },
  help: { type: "boolean", short: "h" },
};

function fail(why) {
  console.error(`compare: ${why}`);
  process.exit(1);
}

function readArguments() {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    return fail(`${error.message}; --help shows what there is`);
  }
}

const wanted = readArguments();
if (wanted.help) {
  console.log(USAGE);
  process.exit(0);
}

const whole = (name, text) => {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1) fail(`--${name} must be whole numbers from 1 on, not "${text}"`);
  return number;
};
const inFlight = wanted["in-flight"].split(",").map((text) => whole("in-flight", text));
const [most, rounds, warmUp, measure, skus] =
  ["most", "rounds", "warm-up", "measure", "skus"].map((name) => whole(name, wanted[name]));

const say = (what) => process.stderr.write(`${what}\n`);

/** Run a program to its end and fail with what it said. */
function must(program, args, options = {}) {
  const ended = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 26, ...options });
  if (ended.error) fail(`${program} cannot be started: ${ended.error.message}`);
  if (ended.status !== 0) fail(`${[program, ...args].join(" ")} ended with ${ended.status}:\n${ended.stderr ?? ""}`);
  return ended.stdout;
}

const running = new Set();

function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], ...options });
  child.said = "";
  child.stderr.on("data", (text) => { child.said = (child.said + text).slice(-4000); });
  child.on("error", (error) => fail(`${program} cannot be started: ${error.message}`));
  running.add(child);
  child.on("exit", () => running.delete(child));
  return child;
}

async function stop(child, signal = "SIGKILL") {
  if (!running.has(child)) return;
  child.kill(signal);
  await new Promise((done) => { child.on("exit", done); });
}

process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));

const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });

async function until(what, child, isReady) {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await isReady().catch(() => false)) return;
    if (!running.has(child)) fail(`${what} has ended:\n${child.said}`);
    await sleep(200);
  }
  fail(`${what} is not ready after a minute:\n${child.said}`);
}

function freePort() {
  return new Promise((done) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

const scratch = mkdtempSync(join(tmpdir(), "checkout-peers-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

/** A folder of its own for each run, removed after it. */
async function inFolder(work) {
  const folder = mkdtempSync(join(scratch, "run-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const figures = (line) => JSON.parse(line.trim().split("\n").at(-1));

/** `deploy bench`, which starts everything that it needs. */
const shop = (count) => inFolder((folder) => {
  const file = join(folder, "figures.json");
  must(join(root, "target/release/deploy"), ["bench", "--mode", "engine", "--in-flight", count, "--skus", skus, "--workers", 1,
    "--runs", 1, "--warm-up", `${warmUp}s`, "--measure", `${measure}s`, "--json-file", file].map(String));
  const [run] = JSON.parse(readFileSync(file, "utf8")).cases[0].runs;
  return {
    per_second: run.per_second,
    to_session_p50_ms: run.to_session.p50_ms, to_session_p99_ms: run.to_session.p99_ms,
    to_settled_p50_ms: run.to_settled.p50_ms, to_settled_p99_ms: run.to_settled.p99_ms,
  };
});

/** Its server with four partitions, which is faster here than its default of 24; handlers and customers in Rust. */
const restate = (count) => inFolder(async (folder) => {
  const [ingress, admin, node, handlers] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const program = join(here, "restate/target/release/restate-checkout");
  // Not the script in `.bin`, whose child would outlive it.
  const binary = `node_modules/@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`;
  const server = start(join(here, binary), ["--base-dir", folder], {
    cwd: folder,
    env: {
      ...process.env,
      RESTATE_DEFAULT_NUM_PARTITIONS: "4",
      RESTATE_BIND_ADDRESS: `127.0.0.1:${node}`,
      RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${node}`,
      RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${admin}`,
      RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingress}`,
      RESTATE_LOG_FILTER: "warn",
      RESTATE_DISABLE_TELEMETRY: "true",
    },
  });
  const served = start(program, ["serve", String(handlers)]);
  await until("restate-server", server, async () => (await fetch(`http://127.0.0.1:${admin}/health`)).ok);
  await until("the handlers", served, async () => {
    const deployment = { method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify({ uri: `http://127.0.0.1:${handlers}` }) };
    return (await fetch(`http://127.0.0.1:${admin}/deployments`, deployment)).ok;
  });
  await until("its ingress", server, async () => (await fetch(`http://127.0.0.1:${ingress}/restate/health`)).ok);
  const drive = (...load) => output(program, ["drive", `http://127.0.0.1:${ingress}`, ...load].map(String));
  // Many who come right after its start stand still for longer than is measured; after one who comes alone they do not.
  await drive(1, skus, 1, 3);
  const driven = await drive(count, skus, warmUp, measure);
  await stop(served);
  await stop(server);
  return figures(driven);
});

/** With PostgreSQL as it comes, which syncs each commit, and DBOS with a data source of its own. */
const dbos = (count) => inFolder(async (folder) => {
  const port = await freePort();
  const data = join(folder, "data");
  mkdirSync(data);
  chown(folder);
  chown(data);
  must(join(postgres, "initdb"), ["-D", data, "-A", "trust", "-U", "postgres"], asPostgres);
  const settings = ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"];
  const server = start(join(postgres, "postgres"), ["-D", data, "-p", String(port), "-k", folder, ...settings], asPostgres);
  const createdb = () => spawnSync(join(postgres, "createdb"), ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres", "shop"]);
  await until("postgres", server, async () => createdb().status === 0);
  const url = `postgres://postgres@127.0.0.1:${port}/shop`;
  const driven = await output("node", [join(here, "dbos/checkout.mjs"), url, count, skus, warmUp, measure].map(String));
  await stop(server, "SIGQUIT");
  return figures(driven);
});

/** What a program prints, without standing in the way of those that are watched meanwhile. */
function output(program, args) {
  return new Promise((done) => {
    const child = start(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    child.stdout.on("data", (more) => { text += more; });
    child.on("close", (code) => {
      if (code !== 0) fail(`${program} ended with ${code}:\n${child.said}`);
      done(text);
    });
  });
}

function findPostgres() {
  const debian = "/usr/lib/postgresql";
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const places = [...versions.map((version) => join(debian, version, "bin")), ...(process.env.PATH ?? "").split(":")];
  return places.find((place) => existsSync(join(place, "initdb")))
    ?? fail("PostgreSQL is not installed: `apt-get install postgresql`, or put its bin folder into PATH");
}

const postgres = findPostgres();
// It refuses to be run by root.
const owner = process.getuid?.() === 0
  ? ["-u", "-g"].map((which) => Number(must("id", [which, "postgres"])))
  : undefined;
const asPostgres = owner ? { uid: owner[0], gid: owner[1], cwd: "/" } : {};
const chown = (folder) => owner && chownSync(folder, ...owner);
chown(scratch);

say("install and build (a few minutes the first time)");
const seen = { stdio: ["ignore", "ignore", "inherit"] };
must("npm", ["ci", "--silent", "--no-audit", "--no-fund"], { cwd: here, ...seen });
// Where they are looked for below, whatever the environment says.
const release = (folder, ...what) => must("cargo", ["build", "--release", "--target-dir", "target", ...what], { cwd: folder, ...seen });
release(join(here, "restate"));
release(root, "-p", "deploy");

const SYSTEMS = { shop, restate, dbos };
const NAMES = { shop: "this shop", restate: "Restate 1.7", dbos: "DBOS 4.24" };
const results = [];

for (let round = 1; round <= rounds; round += 1) {
  for (const count of [...new Set([...inFlight, most])]) {
    for (const [system, run] of Object.entries(SYSTEMS)) {
      if (system !== "shop" && !inFlight.includes(count)) continue;
      const figures = await run(count);
      results.push({ round, system, in_flight: count, ...figures, load: loadavg()[0] });
      say(`round ${round} of ${rounds}, ${count} in flight: ${NAMES[system]} ${Math.round(figures.per_second)}/s, ` +
        `to the session ${figures.to_session_p50_ms?.toFixed(1) ?? "–"} ms`);
    }
  }
}

/** Of a run in which nobody came to the end there is a throughput of 0 and no time. */
const middle = (numbers) => numbers.filter((one) => one !== null).sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
const of = (system, count, name) =>
  middle(results.filter((one) => one.system === system && one.in_flight === count).map((one) => one[name]));
const times = (more, less) => `${(more / less).toFixed(1)} ×`;
const row = (cells) => cells.map((cell, place) => String(cell)[place === 0 ? "padEnd" : "padStart"](place === 0 ? 12 : 15)).join("");

console.log(`\nCheckouts a second, everything synced, ${skus} articles, middle of ${rounds}; ${cpus().length} cores for each in its turn`);
console.log(row(["in flight", ...Object.values(NAMES), "to Restate", "to DBOS"]));
for (const count of inFlight) {
  const [ours, theirs, others] = Object.keys(SYSTEMS).map((system) => of(system, count, "per_second"));
  console.log(row([count, ...[ours, theirs, others].map(Math.round), times(ours, theirs), times(ours, others)]));
}
const best = (system) => Math.max(...inFlight.map((count) => of(system, count, "per_second")));
const ours = of("shop", most, "per_second");
console.log(row([most, Math.round(ours), `best ${Math.round(best("restate"))}`, `best ${Math.round(best("dbos"))}`,
  times(ours, best("restate")), times(ours, best("dbos"))]));

console.log("\nStart to session, p50 in milliseconds");
for (const count of inFlight) {
  const [ours, theirs, others] = Object.keys(SYSTEMS).map((system) => of(system, count, "to_session_p50_ms"));
  console.log(row([count, ...[ours, theirs, others].map((ms) => ms.toFixed(1)), times(theirs, ours), times(others, ours)]));
}
if (wanted["json-file"]) writeFileSync(wanted["json-file"], `${JSON.stringify(results, null, 2)}\n`);
process.exit(0);
