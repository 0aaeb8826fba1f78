// What the tests of the client module have in common: tabs of one person that keep what they are told, and a network that can fail.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { PATIENCE, publish, root, serveFolder, startBroker, startBrowser } from "./support.mjs";

export const LIMIT = { timeout: PATIENCE * 3 };
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

/** A broker that remembers `history` events, the tabs of a person, and what closes both. */
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

/** Opens a tab with a stream, all of which it is told is kept in `told`. */
export async function openTab(context, url, options = {}) {
  const page = await context.newPage();
  await page.goto(site.url);
  await page.evaluate(listen, [url, { topics: options.records ? undefined : [TOPIC], ...options }]);
  return page;
}

/** In the page. */
async function listen([url, { asksForToken, ...options }]) {
  const { connect } = await import("/esker.js");
  const told = { events: [], ids: [], gaps: [], errors: [], states: [], expired: 0, reasons: [] };
  const token = (reason) => {
    told.reasons.push(reason);
    return globalThis.freshToken();
  };
  globalThis.told = told;
  globalThis.stream = connect(url, {
    ...options,
    ...(asksForToken && { token }),
    onEvent: (event) => (told.events.push(event.data), told.ids.push(event.id)),
    onGap: (gap) => told.gaps.push(gap),
    onExpired: () => (told.expired += 1),
    onError: ({ status, detail, isFinal }) => told.errors.push({ status, detail, isFinal }),
    onState: (state) => told.states.push(state),
  });
}

export const told = (page) => page.evaluate(() => globalThis.told);
export const events = async (page) => (await told(page)).events;
export const role = (page) => page.evaluate(() => globalThis.stream.role);
export const state = (page) => page.evaluate(() => globalThis.stream.state);
export const stats = async (broker) => (await fetch(`${broker.url}/stats`)).json();

/** Waits until `look()` is `wanted`; shows the difference if it never is. */
export async function eventually(wanted, look) {
  const end = Date.now() + PATIENCE;
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

/** The pages, the leader's first. */
export async function leaderFirst(pages) {
  const roles = await Promise.all(pages.map(role));
  assert.equal(roles.filter((it) => it === "leader").length, 1, roles.join());
  const at = roles.indexOf("leader");
  return [pages[at], ...pages.filter((_, other) => other !== at)];
}

/** A TCP proxy whose connections can be cut, kept from coming, and frozen, so that no byte passes. */
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
