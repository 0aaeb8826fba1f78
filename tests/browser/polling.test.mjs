// The client module's connection where the network holds responses back, without a browser and a broker: when it polls, and
// when it tries streams again.

import assert from "node:assert/strict";
import path from "node:path";
import { afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { never } from "./globals.mjs";
import { root } from "./support.mjs";

const load = (file) => import(pathToFileURL(path.join(root, "scripts/client", file)));
const { Connection } = await load("connection.js");
const { forgetNetwork, holdsBack } = await load("network.js");
const { connect } = await load("esker.js");

const ADDRESS = "http://broker.test/subscribe/greeting";
const SETTINGS = { address: ADDRESS, startsLive: true, prime: true, silence: 45_000, pollAfter: 50 };
/** Tests fail if something takes longer, in milliseconds. */
const LIMIT = { timeout: 20_000 };

afterEach(forgetNetwork);

const answer = (text) => new Response(text, { headers: { "Content-Type": "text/event-stream" } });

/** Opens a connection whose requests `respond` answers, and closes it when `isOver(seen)`. Returns what it has reported. */
function run(respond, isOver, settings = {}, position) {
  return new Promise((resolve) => {
    const seen = { queries: [], events: [], states: [], failures: [], gaps: 0 };
    const look = () => isOver(seen) && (connection.close(), resolve(seen));
    const fetch = async (url, { signal }) => {
      seen.queries.push(new URL(url).search);
      look();
      return respond(new URL(url).searchParams, signal, seen.queries.length);
    };
    const sink = {
      event: ({ data }) => (seen.events.push(data), look()),
      moved() {},
      expired() {},
      gap: () => (seen.gaps += 1),
      state: (state) => (seen.states.push(state), look()),
      failed: (error) => (seen.failures.push(error), look()),
    };
    const connection = new Connection({ ...SETTINGS, ...settings, fetch }, position, sink);
  });
}

const heldBack = (parameters, signal) => (parameters.has("poll") ? null : never(signal));

test("without a first byte the stream is polled, from one position to the next", LIMIT, async () => {
  const polls = ["id: 7\n\n", "data: a\nid: 8\n\n", "event: gap\ndata: {}\n\nid: 9\n\n", "data: b\nid: own\n\ndata: c\nid: 11\n\n"];
  const respond = (parameters, signal) => heldBack(parameters, signal) ?? answer(`:\nretry: 100\n${polls.shift() ?? ""}`);
  const { queries, events, states, failures, gaps } = await run(respond, ({ queries }) => queries.length === 6);
  assert.deepEqual(events, ["a", "b", "c"]);
  const positions = ["", "last_event_id=7&", "last_event_id=8&", "last_event_id=9&", "last_event_id=11&"];
  assert.deepEqual(queries, ["?prime=", ...positions.map((position) => `?${position}poll=&prime=`)]);
  assert.deepEqual([failures.map(({ isFinal }) => isFinal), gaps], [[false], 1]);
  assert.deepEqual(states.filter((state, at) => state !== states[at - 1]), ["connecting", "waiting", "connecting", "open"], "open between polls");
});

test("records are polled without prime", LIMIT, async () => {
  const respond = (parameters, signal) => heldBack(parameters, signal) ?? answer(":\nretry: 100\n");
  const { queries } = await run(respond, ({ queries }) => queries.length === 3, { startsLive: false, prime: false });
  assert.deepEqual(queries, ["", "?poll=", "?poll="]);
});

test("a response whose body does not begin is held back too", LIMIT, async () => {
  const body = (signal) => new ReadableStream({ start: (to) => signal.addEventListener("abort", () => to.error(signal.reason)) });
  const respond = (parameters, signal) => (parameters.has("poll") ? answer(":\nretry: 100\ndata: a\nid: 1\n\n") : answer(body(signal)));
  assert.deepEqual((await run(respond, ({ events }) => events.length > 0)).events, ["a"]);
});

test("a stream that has begun may be silent", LIMIT, async () => {
  const body = (signal) =>
    new ReadableStream({
      start: (to) => (to.enqueue(new TextEncoder().encode(":\n")), signal.addEventListener("abort", () => to.error(signal.reason))),
    });
  const finished = run((_, signal) => answer(body(signal)), ({ failures }) => failures.length > 0, { silence: 400 });
  const { queries, failures } = await finished;
  assert.deepEqual([queries, failures[0].message], [["?prime="], "the stream was silent for too long"]);
  assert.ok(!holdsBack(ADDRESS));
});

test("a poll that waits after its first byte shows that streams pass", LIMIT, async () => {
  const body = () =>
    new ReadableStream({
      async start(to) {
        to.enqueue(new TextEncoder().encode(":\nretry: 100\n"));
        await sleep(1_100);
        to.close();
      },
    });
  const respond = (parameters, signal, count) => (count === 1 ? never(signal) : answer(body()));
  const { queries } = await run(respond, ({ queries }) => queries.length === 3);
  assert.deepEqual(queries, ["?prime=", "?poll=&prime=", "?prime="]);
});

test("the network is remembered for other streams of the broker, until it changes", LIMIT, async () => {
  const respond = (parameters, signal) => heldBack(parameters, signal) ?? answer(":\nretry: 100\ndata: a\nid: 1\n\n");
  await run(respond, ({ events }) => events.length > 0);
  assert.ok(holdsBack(`${ADDRESS},othertopic`) && !holdsBack("http://other.test/events"));
  const next = await run(respond, ({ events }) => events.length > 0);
  assert.deepEqual(next.queries, ["?poll=&prime="]);
  const listeners = {};
  globalThis.addEventListener = (type, act) => (listeners[type] = act);
  connect("http://broker.test/", { topics: ["greeting"], fetch: (_, { signal }) => never(signal) }).close();
  delete globalThis.addEventListener;
  listeners.online();
  assert.deepEqual((await run(respond, ({ events }) => events.length > 0)).queries, ["?prime=", "?poll=&prime="]);
});

test("streams are tried again after some minutes", LIMIT, async (t) => {
  const respond = (parameters, signal) => heldBack(parameters, signal) ?? answer(":\nretry: 100\ndata: a\nid: 1\n\n");
  await run(respond, ({ events }) => events.length > 0);
  const { now } = Date;
  for (const [minutes, isPolled] of [[9, true], [11, false]]) {
    t.mock.method(Date, "now", () => now() + minutes * 60_000);
    assert.equal(holdsBack(ADDRESS), isPolled, `after ${minutes} minutes`);
    t.mock.restoreAll();
  }
});

test("a poll that fails is repeated slowly, and what refuses a stream refuses a poll", LIMIT, async () => {
  const portal = () => new Response("<p>Log in", { headers: { "Content-Type": "text/html" } });
  const respond = (parameters, signal) => heldBack(parameters, signal) ?? portal();
  const begin = Date.now();
  const { queries, failures } = await run(respond, ({ queries }) => queries.length === 3);
  assert.equal(queries.length, 3);
  assert.ok(Date.now() - begin >= 3_000, "it waits for the reconnection time");
  assert.ok(failures.every(({ isFinal }) => !isFinal));
  forgetNetwork();
  const problem = () => new Response("{}", { status: 403, headers: { "Content-Type": "application/problem+json" } });
  const refused = await run((parameters, signal) => heldBack(parameters, signal) ?? problem(), ({ states }) => states.includes("closed"));
  assert.deepEqual(refused.failures.map(({ isFinal }) => isFinal), [false, true]);
});

test("with an infinite pollAfter a stream is never polled", LIMIT, async () => {
  const settings = { pollAfter: Infinity, silence: 300 };
  const { queries, failures } = await run((_, signal) => never(signal), ({ failures }) => failures.length > 0, settings);
  assert.deepEqual([queries, failures[0].message], [["?prime="], "the stream was silent for too long"]);
});
