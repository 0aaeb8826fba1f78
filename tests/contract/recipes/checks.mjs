// Checks a proxy set up by a recipe, as browsers use it. recipes.rs starts it with what the recipe promises and what it runs with.
// Exits with 0 if everything works.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { get } from "node:http";

import { Broker } from "./broker.mjs";
import { Http1Browser, Http2Browser, NAME, Stream, eventually, text } from "./browser.mjs";

const recipe = JSON.parse(process.argv[2]);
const { port, plain, certificate, publisher, subscriber } = recipe;
const SITE = `${certificate ? "https" : "http"}://${NAME}:${port}`;
/** Milliseconds: far more than a delivery takes, and less than any intentional delay. */
const MAX_DELAY = 150;
const SUBSCRIBER = { cookie: `esker_token=${subscriber}` };

const broker = new Broker(recipe);
const report = [];

function open(kind) {
  return kind.open(port, certificate && readFileSync(certificate));
}

/** Opens a stream, and requires a head that no proxy has changed. */
async function subscribe(browser, path, headers) {
  const response = await browser.send("GET", path, { "accept-encoding": "gzip, br", ...SUBSCRIBER, ...headers });
  assert.equal(response.status, 200);
  assert.equal(response.headers["content-type"], "text/event-stream");
  assert.equal(response.headers["content-encoding"], undefined);
  assert.equal(response.headers["cache-control"], "no-cache, no-store, no-transform");
  return new Stream(response);
}

/** Publishes as a page of the site does, with its cookie. */
function post(browser, data, prefix = "") {
  const headers = { "content-type": "text/plain", origin: SITE, cookie: `esker_token=${publisher}` };
  return browser.send("POST", `${prefix}/publish/topicone1`, headers, data);
}

/** Publishes, and returns the event's id. */
async function publish(browser, data, prefix) {
  const response = await post(browser, data, prefix);
  const answer = await text(response);
  assert.equal(response.status, 200, answer);
  const { id } = JSON.parse(answer);
  assert.ok(id, answer);
  return id;
}

async function deliversWithoutDelay(browser) {
  const stream = await subscribe(browser, "/subscribe/topicone1");
  await broker.hasSubscribers(1);
  const ids = [];
  const times = [];
  for (let number = 0; number < 30; number += 1) {
    const data = number === 7 ? `${number} ${"x".repeat(100_000)}` : String(number);
    const begin = performance.now();
    const id = await publish(browser, data);
    await stream.until(`event ${number}`, (text) => text.includes(`data: ${data}\nid: ${id}\n\n`));
    times.push(performance.now() - begin);
    ids.push(id);
  }
  times.sort((one, other) => one - other);
  assert.ok(times[20] < MAX_DELAY, `two thirds took up to ${times[20]} ms`);
  report.push(`median ${times[15].toFixed(2)} ms`);
  stream.cancel();
  await broker.hasSubscribers(0);
  return ids;
}

async function resumes(browser, ids) {
  for (const prefix of recipe.prefixes) {
    for (const [query, headers] of [["", { "last-event-id": ids[20] }], [`?last_event_id=${ids[20]}`, {}]]) {
      const stream = await subscribe(browser, `${prefix}/subscribe/topicone1${query}`, headers);
      await stream.until("the last event", (text) => text.includes(`id: ${ids.at(-1)}\n\n`));
      const seen = [...stream.text.matchAll(/^id: (\d+)$/gm)].map((match) => match[1]);
      assert.deepEqual(seen, ids.slice(21));
      ids.push(await publish(browser, "with the prefix", prefix));
      await stream.until("an event with the prefix", (text) => text.includes(`id: ${ids.at(-1)}\n`));
      stream.cancel();
    }
  }
  await broker.hasSubscribers(0);
}

async function passesHeartbeats(browser) {
  const stream = await subscribe(browser, "/subscribe/topicone1");
  await stream.until("4 heartbeats", (text) => (text.match(/^:$/gm) ?? []).length >= 4);
  stream.cancel();
  await broker.hasSubscribers(0);
}

async function carriesManyStreams(browser) {
  const count = recipe.streams;
  assert.ok(browser.limit >= count + 1, `the site allows ${browser.limit} streams`);
  const streams = await Promise.all(Array.from({ length: count }, () => subscribe(browser, "/subscribe/topicone1")));
  await broker.hasSubscribers(count);
  const begin = performance.now();
  const id = await publish(browser, "to all");
  await Promise.all(streams.map((stream) => stream.until("the event for all", (text) => text.includes(`id: ${id}\n\n`))));
  report.push(`to ${count} streams ${(performance.now() - begin).toFixed(2)} ms`);
  const half = count >> 1;
  for (const stream of streams.slice(half)) stream.cancel();
  await broker.hasSubscribers(half);
  // As if the network failed: the proxy must notice the lost connection, and the broker the lost streams.
  browser.destroy();
  for (const stream of streams) stream.cancel();
  await broker.hasSubscribers(0);
}

/** The name of a record arrives unchanged, with and without the prefix. */
async function keepsNames(browser) {
  for (const event of ["b", "a/b", "a%2Fb", "é?"]) await broker.insert(event);
  const fetchText = async (path) => {
    const response = await browser.send("GET", path, SUBSCRIBER);
    return { status: response.status, body: await text(response) };
  };
  for (const prefix of recipe.prefixes) {
    for (const [path, name] of [
      ["/audit/b", "b"],
      ["/audit/a%2Fb", "a/b"],
      ["/audit/a%2fb?limit=5", "a/b"],
      ["/audit/a%252Fb", "a%2Fb"],
      ["/audit/%C3%A9%3F", "é?"],
      ["/audit?event=a%2Fb", "a/b"],
      ["/audit?event=a%252Fb", "a%2Fb"],
    ]) {
      const { status, body } = await fetchText(prefix + path);
      assert.equal(status, 200, `${prefix}${path}: ${body}`);
      assert.deepEqual(Object.values(JSON.parse(body)), [name], prefix + path);
    }
    // Dot segments between literal slashes may be resolved by every recipient (RFC 3986 section 6.2.2.3), but not these.
    for (const path of ["/audit/a%2F..%2Fb", "/audit/a%2f%2e%2E%2fb", "/x/..%2Faudit/b", "/..%2Faudit/b", "/audit/.%2Fb"]) {
      const { status, body } = await fetchText(prefix + path);
      assert.ok([400, 403, 404].includes(status), `${prefix}${path} got ${status}: ${body}`);
    }
  }
}

/** About 200 publishes, most of them when the proxy is closing its idle connections: none may fail. */
async function publishesAfterIdling(browser) {
  const begin = performance.now();
  const statuses = {};
  const attempt = async (_, number) => {
    // Around the moment at which the connections of the last burst have been idle for too long.
    const delay = number < 34 ? 0 : recipe.idle - 85 + (number - 34) * 5;
    await new Promise((resolve) => setTimeout(resolve, delay));
    const response = await post(browser, "after a pause");
    await text(response);
    statuses[response.status] = (statuses[response.status] ?? 0) + 1;
  };
  for (let round = 0; round < 3; round += 1) await Promise.all(Array.from({ length: 68 }, attempt));
  report.push(`${JSON.stringify(statuses)} after idling`);
  assert.deepEqual(Object.keys(statuses), ["200"], JSON.stringify(statuses));
  return performance.now() - begin;
}

/** What the broker gets to know about a request: exactly what the client asked for, and the client's address. */
async function forwards(browser) {
  const headers = { "x-forwarded-for": "10.9.8.7", "last-event-id": "5" };
  const seen = await broker.replaced(async () => {
    const begin = performance.now();
    await eventually("forwarded", async () => {
      const response = await browser.send("GET", "/audit/a%2Fb?after=1&x=%2F", headers);
      return (await text(response)) === "ok";
    });
    report.push(`back after ${(performance.now() - begin).toFixed(0)} ms`);
  });
  const { target, headers: received, raw } = seen.at(-1);
  assert.equal(target, "/audit/a%2Fb?after=1&x=%2F");
  assert.equal(received.host, `${NAME}:${port}`);
  assert.equal(received["last-event-id"], "5");
  assert.equal(raw.filter((name) => name.toLowerCase() === "x-forwarded-for").length, 1, raw);
  const addresses = received["x-forwarded-for"].split(/, */);
  // The client's address, not what it claims. Envoy has another one for clients on the same machine.
  assert.notEqual(addresses.at(-1), "10.9.8.7");
  report.push(`X-Forwarded-For: ${addresses}`);
}

/** The broker goes away and comes back. */
async function survivesRestart(browser) {
  const stream = await subscribe(browser, "/subscribe/topicone1");
  await broker.hasSubscribers(1);
  await broker.stop();
  await stream.until("its end", () => stream.hasEnded);
  const refused = await Promise.all(Array.from({ length: 30 }, () => browser.send("GET", "/subscribe/topicone1", SUBSCRIBER)));
  const bodies = await Promise.all(refused.map(text));
  const statuses = [...new Set(refused.map((response) => response.status))];
  report.push(`${statuses} without a broker`);
  if (recipe.saysRetry) {
    assert.deepEqual(statuses, [200]);
    assert.ok(refused.every(({ headers }) => headers["content-type"].startsWith("text/event-stream")));
    assert.ok(bodies.every((body) => body.startsWith("retry: 3000\n")), bodies[0]);
  } else {
    assert.ok(statuses.every((status) => [502, 503].includes(status)), String(statuses));
  }
  await forwards(browser);
  // Without heartbeats that could reveal lost clients, if the recipe promises that they are noticed at once.
  await broker.start("--heartbeat", recipe.departsAtOnce ? "60s" : "500ms");
  await eventually("subscribed to again", async () => {
    const response = await browser.send("GET", "/subscribe/topicone1", SUBSCRIBER);
    response.cancel();
    return response.status === 200;
  });
  await broker.hasSubscribers(0);
}

/** The broker notices that a client disconnects. */
async function noticesDeparture(browser) {
  const stream = await subscribe(browser, "/subscribe/topicone1");
  await broker.hasSubscribers(1);
  const id = await publish(browser, "to the second broker");
  await stream.until("an event", (text) => text.includes(`id: ${id}\n\n`));
  const begin = performance.now();
  stream.cancel();
  await broker.hasSubscribers(0);
  report.push(`departure noticed after ${(performance.now() - begin).toFixed(0)} ms`);
}

/** Traefik listens before it has read all of its configuration. */
async function isReady() {
  try {
    const browser = await open(kind);
    const response = await browser.send("GET", "/healthz", {});
    await text(response);
    browser.destroy();
    return response.status === 200;
  } catch {
    return false;
  }
}

async function redirects() {
  const response = await new Promise((resolve, reject) => {
    get({ port: plain, host: "127.0.0.1", path: "/healthz", headers: { host: NAME } }, resolve).once("error", reject);
  });
  response.resume();
  assert.ok([301, 302, 308].includes(response.statusCode), String(response.statusCode));
  assert.ok(response.headers.location.startsWith(`https://${NAME}`), response.headers.location);
}

async function serves(kind) {
  const browser = await open(kind);
  const ids = await deliversWithoutDelay(browser);
  await resumes(browser, ids);
  await passesHeartbeats(browser);
  return browser;
}

const kinds = recipe.http2 ? [Http1Browser, Http2Browser] : [Http1Browser];
const kind = kinds.at(-1);
await eventually("ready", isReady);
await redirects();
for (const kind of kinds) (await serves(kind)).destroy();
const browser = await open(kind);
await keepsNames(browser);
await publishesAfterIdling(browser);
await carriesManyStreams(browser);
await survivesRestart(await open(kind));
for (const kind of kinds) await noticesDeparture(await open(kind));
console.log(report.join(", "));
process.exit();
