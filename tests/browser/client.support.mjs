// Shared by the client module's tests: tabs of one person that record what they receive, and a network that can fail.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { TIMEOUT, publish, root, serveFolder, startBroker, startBrowser } from "./support.mjs";

export const LIMIT = { timeout: TIMEOUT * 3 };
export const TOPIC = "greeting";

let folder;
export let site;
let browser;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "esker-client-"));
  await cp(path.join(root, "scripts/client"), folder, { recursive: true });
  await writeFile(path.join(folder, "index.html"), "<!doctype html><title>a tab</title>");
  site = await serveFolder(folder);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await site?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Runs `play` with a broker that retains `history` events and the tabs of a person, and closes both. */
export async function scene({ history = 1_000, ...how }, play) {
  const common = ["--retry", "200ms", "--history", String(history)];
  const broker = await startBroker({ ...how, arguments: [...common, ...(how.arguments ?? [])] });
  const context = await browser.newContext();
  try {
    await play(broker, context);
  } finally {
    await context.close();
    await broker.stop();
  }
}

/** Opens a tab with a stream that records everything in `received`. */
export async function openTab(context, url, options = {}) {
  const page = await context.newPage();
  await page.goto(site.url);
  await page.evaluate(listen, [url, { topics: options.records ? undefined : [TOPIC], ...options }]);
  return page;
}

/** Runs in the page. */
async function listen([url, { asksForToken, ...options }]) {
  const { connect } = await import("/esker.js");
  const received = { events: [], ids: [], gaps: [], errors: [], states: [], expired: 0, reasons: [] };
  const token = (reason) => {
    received.reasons.push(reason);
    return globalThis.freshToken();
  };
  globalThis.received = received;
  globalThis.stream = connect(url, {
    ...options,
    ...(asksForToken && { token }),
    onEvent: (event) => (received.events.push(event.data), received.ids.push(event.id)),
    onGap: (gap) => received.gaps.push(gap),
    onExpired: () => (received.expired += 1),
    onError: ({ status, detail, isFinal }) => received.errors.push({ status, detail, isFinal }),
    onState: (state) => received.states.push(state),
  });
}

export const received = (page) => page.evaluate(() => globalThis.received);
export const events = async (page) => (await received(page)).events;
export const role = (page) => page.evaluate(() => globalThis.stream.role);
export const state = (page) => page.evaluate(() => globalThis.stream.state);
export const stats = async (broker) => (await fetch(`${broker.url}/stats`)).json();

/** Waits until `look()` returns `wanted`; fails with the difference. */
export async function eventually(wanted, look) {
  const end = Date.now() + TIMEOUT;
  for (;;) {
    const seen = await look();
    try {
      return assert.deepEqual(seen, wanted);
    } catch (difference) {
      if (Date.now() > end) throw difference;
    }
    await sleep(30);
  }
}

export const all = (pages, look) => () => Promise.all(pages.map(look));
export const same = (pages, value) => pages.map(() => value);
export const opened = (pages) => eventually(same(pages, "open"), all(pages, state));
/** "1", "2" … */
export const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => String(from + at));

export async function publishNumbers(broker, from, to, topic = TOPIC) {
  for (const number of numbers(from, to)) await publish(broker, topic, `data: ${number}`);
}

export async function threeTabs(context, url, options) {
  const pages = [];
  for (let tab = 0; tab < 3; tab++) pages.push(await openTab(context, url, options));
  await opened(pages);
  return pages;
}

/** Returns the pages, the leader's first. */
export async function leaderFirst(pages) {
  const roles = await Promise.all(pages.map(role));
  assert.equal(roles.filter((it) => it === "leader").length, 1, roles.join());
  const at = roles.indexOf("leader");
  return [pages[at], ...pages.filter((_, other) => other !== at)];
}

/** Starts a TCP proxy whose connections can be cut, held back, or frozen, so that no byte passes. */
export async function startProxy(url) {
  const { port } = new URL(url);
  const sockets = new Set();
  let isBlocked = false;
  const server = net.createServer((near) => {
    if (isBlocked) return near.destroy();
    const far = net.connect(Number(port), "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.pipe(other);
      one.on("error", () => {});
      one.on("close", () => (other.destroy(), sockets.delete(one)));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => sockets.forEach((socket) => socket.destroy());
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut,
    freeze: () => sockets.forEach((socket) => socket.unpipe()),
    block: () => ((isBlocked = true), cut()),
    unblock: () => (isBlocked = false),
    close: () => (cut(), new Promise((resolve) => server.close(resolve))),
  };
}
