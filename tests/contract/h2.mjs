// Acts as a browser over HTTP/2 and TLS, through a proxy set up by a recipe: one connection, many streams. recipes.rs starts it
// with the site's HTTPS port, its HTTP port, the broker's address, the certificate, a publisher's token and a subscriber's token.
// Exits with 0 if everything works.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { get } from "node:http";
import { connect, constants } from "node:http2";

const [port, plainPort, broker, certificate, publisher, subscriber] = process.argv.slice(2);
const NAME = "events.example.com";
const SITE = `https://${NAME}:${port}`;
/** Milliseconds: far more than a delivery takes, and less than any intentional delay. */
const MAX_DELAY = 150;
const TIMEOUT = 20_000;

const lookup = (_name, options, found) =>
  options.all ? found(null, [{ address: "127.0.0.1", family: 4 }]) : found(null, "127.0.0.1", 4);

function open() {
  const session = connect(SITE, { ca: readFileSync(certificate), lookup, settings: { enablePush: false } });
  return new Promise((resolve, reject) => {
    session.once("connect", () => resolve(session));
    session.once("error", reject);
  });
}

/** A stream as growing text; `until` waits for a condition on the text. */
class Stream {
  text = "";
  #waiting = [];

  constructor(session, path, fields = {}) {
    this.stream = session.request({ ":path": path, cookie: `esker_token=${subscriber}`, ...fields });
    this.opened = new Promise((resolve) => this.stream.once("response", resolve));
    this.stream.setEncoding("utf8");
    this.stream.on("error", () => {});
    this.stream.on("data", (text) => {
      this.text += text;
      for (const look of this.#waiting) look();
    });
  }

  until(what, has) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`never ${what}: ${this.text.slice(-300)}`)), TIMEOUT);
      const look = () => {
        if (!has(this.text)) return;
        clearTimeout(timer);
        this.#waiting = this.#waiting.filter((other) => other !== look);
        resolve();
      };
      this.#waiting.push(look);
      look();
    });
  }
}

async function subscribe(session, path, fields) {
  const stream = new Stream(session, path, fields);
  const head = await stream.opened;
  assert.equal(head[":status"], 200);
  assert.equal(head["content-type"], "text/event-stream");
  return stream;
}

/** Publishes as a page of the site does, with its cookie. Returns the event's id. */
async function publish(session, data, prefix = "") {
  const cookie = `esker_token=${publisher}`;
  const fields = { ":method": "POST", ":path": `${prefix}/publish/topicone1`, "content-type": "text/plain", origin: SITE, cookie };
  const request = session.request(fields);
  request.setEncoding("utf8");
  request.end(data);
  let text = "";
  for await (const part of request) text += part;
  const { id } = JSON.parse(text);
  assert.ok(id, text);
  return id;
}

async function deliversWithoutDelay(session) {
  const stream = await subscribe(session, "/subscribe/topicone1");
  await hasSubscribers(1);
  const ids = [];
  const times = [];
  for (let number = 0; number < 30; number += 1) {
    const data = number === 7 ? `${number} ${"x".repeat(100_000)}` : String(number);
    const begin = performance.now();
    const id = await publish(session, data);
    await stream.until(`event ${number}`, (text) => text.includes(`data: ${data}\nid: ${id}\n\n`));
    times.push(performance.now() - begin);
    ids.push(id);
  }
  times.sort((one, other) => one - other);
  assert.ok(times[20] < MAX_DELAY, `two thirds took up to ${times[20]} ms`);
  stream.stream.close(constants.NGHTTP2_CANCEL);
  await hasSubscribers(0);
  return { ids, median: times[15] };
}

async function resumes(session, ids) {
  const stream = await subscribe(session, "/live/subscribe/topicone1", { "last-event-id": ids[20] });
  await stream.until("the last event", (text) => text.includes(`id: ${ids[29]}\n\n`));
  const seen = [...stream.text.matchAll(/^id: (\d+)$/gm)].map((match) => match[1]);
  assert.deepEqual(seen, ids.slice(21));
  const id = await publish(session, "with the prefix", "/live");
  await stream.until("an event with the prefix", (text) => text.includes(`id: ${id}\n`));
  stream.stream.close(constants.NGHTTP2_CANCEL);
}

async function passesHeartbeats(session) {
  const stream = await subscribe(session, "/subscribe/topicone1");
  await stream.until("4 heartbeats", (text) => (text.match(/^:$/gm) ?? []).length >= 4);
  stream.stream.close(constants.NGHTTP2_CANCEL);
  await hasSubscribers(0);
}

async function carriesManyStreams(session) {
  const streams = await Promise.all(Array.from({ length: 100 }, () => subscribe(session, "/subscribe/topicone1")));
  await hasSubscribers(100);
  const begin = performance.now();
  const id = await publish(session, "to all");
  await Promise.all(streams.map((stream) => stream.until("the event for all", (text) => text.includes(`id: ${id}\n\n`))));
  const took = performance.now() - begin;
  for (const stream of streams.slice(0, 60)) stream.stream.close(constants.NGHTTP2_CANCEL);
  await hasSubscribers(40);
  // As if the network failed: the proxy must notice the lost connection, and the broker the lost streams.
  session.destroy();
  await hasSubscribers(0);
  return took;
}

/** Sends a GET request with the subscriber's cookie. Returns the response's status and body. */
async function fetchText(session, path) {
  const request = session.request({ ":path": path, cookie: `esker_token=${subscriber}` });
  request.setEncoding("utf8");
  const head = await new Promise((resolve, reject) => request.once("response", resolve).once("error", reject));
  let text = "";
  for await (const part of request) text += part;
  return { status: head[":status"], text };
}

/** The name of a record arrives unchanged, with and without the prefix. */
async function keepsNames(session) {
  const headers = { authorization: `Bearer ${publisher}`, "content-type": "application/json" };
  for (const event of ["b", "a/b", "a%2Fb", "é?"]) {
    const response = await fetch(`http://${broker}/insert`, { method: "POST", headers, body: JSON.stringify({ event, data: event }) });
    assert.equal(response.status, 200);
  }
  for (const prefix of ["", "/live"]) {
    for (const [path, name] of [
      ["/audit/b", "b"],
      ["/audit/a%2Fb", "a/b"],
      ["/audit/a%2fb?limit=5", "a/b"],
      ["/audit/a%252Fb", "a%2Fb"],
      ["/audit/%C3%A9%3F", "é?"],
      ["/audit?event=a%2Fb", "a/b"],
      ["/audit?event=a%252Fb", "a%2Fb"],
    ]) {
      const { status, text } = await fetchText(session, prefix + path);
      assert.equal(status, 200, `${prefix}${path}: ${text}`);
      assert.deepEqual(Object.values(JSON.parse(text)), [name], prefix + path);
    }
    // Dot segments between literal slashes may be resolved by every recipient (RFC 3986 section 6.2.2.3), but not these.
    for (const path of ["/audit/a%2F..%2Fb", "/audit/a%2f%2e%2E%2fb", "/x/..%2Faudit/b", "/..%2Faudit/b", "/audit/.%2Fb"]) {
      const { status, text } = await fetchText(session, prefix + path);
      assert.ok([400, 404].includes(status), `${prefix}${path} got ${status}: ${text}`);
    }
  }
}

async function redirects() {
  const response = await new Promise((resolve, reject) => {
    get({ port: plainPort, host: "127.0.0.1", path: "/healthz", headers: { host: NAME } }, resolve).once("error", reject);
  });
  response.resume();
  assert.ok([301, 302, 308].includes(response.statusCode), String(response.statusCode));
  assert.ok(response.headers.location.startsWith(`https://${NAME}`), response.headers.location);
}

async function hasSubscribers(count) {
  const begin = performance.now();
  for (;;) {
    const response = await fetch(`http://${broker}/stats`, { headers: { authorization: `Bearer ${publisher}` } });
    const { subscribers } = await response.json();
    if (subscribers === count) return;
    assert.ok(performance.now() - begin < TIMEOUT, `${subscribers} subscribers instead of ${count}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

await redirects();
const session = await open();
assert.equal(session.alpnProtocol, "h2");
const { ids, median } = await deliversWithoutDelay(session);
await resumes(session, ids);
await hasSubscribers(0);
await passesHeartbeats(session);
await keepsNames(session);
const took = await carriesManyStreams(session);
console.log(`median ${median.toFixed(2)} ms, to 100 streams ${took.toFixed(2)} ms`);
