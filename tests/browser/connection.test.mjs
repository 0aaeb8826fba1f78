// The client module's connection, without a browser and a broker: when it reconnects, and when it doesn't.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { enterPage, never } from "./globals.mjs";
import { root } from "./support.mjs";

const load = (file) => import(pathToFileURL(path.join(root, "scripts/client", file)));
const { Connection } = await load("connection.js");
const { connect } = await load("esker.js");

const SINK = { event() {}, moved() {}, gap() {}, expired() {}, state() {}, failed() {} };
const PROBLEM = { "Content-Type": "application/problem+json" };
/** Milliseconds; longer than a timer can wait. */
const MONTHS = 4_000_000_000;

/** Returns how often a connection sends requests in a short time if it gets this response. */
async function attempts(respond, millis = 200) {
  let count = 0;
  const fetch = async () => ((count += 1), respond());
  const settings = { address: "http://broker/subscribe/greeting", silence: 45_000, fetch };
  const connection = new Connection(settings, undefined, SINK);
  await sleep(millis);
  connection.close();
  return count;
}

const stream = (text) => () => new Response(text, { headers: { "Content-Type": "text/event-stream" } });

test("a reconnection time of months is respected", async () => {
  assert.equal(await attempts(stream(`retry: ${MONTHS}\n\n`)), 1);
  assert.equal(await attempts(() => new Response("", { status: 503, headers: { "Retry-After": String(MONTHS / 1000) } })), 1);
  assert.ok((await attempts(stream("retry: 100\n\n"), 400)) > 1, "a short reconnection time is used");
});

test("with a reconnection time of zero the client still waits, and longer each time", async () => {
  for (const respond of [stream("retry: 0\n\n"), stream("retry: 0\ndata: again\n\n")]) {
    const count = await attempts(respond, 1000);
    assert.ok(count >= 2 && count <= 4, `asked ${count} times in a second`);
  }
});

/** Gives a connection each of these responses in turn, then none. Returns what it reported for each, and its reasons for requesting a token. */
async function outcomes(responses, token) {
  const [reported, reasons] = [[], []];
  const connection = await new Promise((resolve) => {
    const fetch = async (_, { signal }) => responses.shift()?.() ?? (resolve(connection), never(signal));
    const failed = ({ status, detail, isFinal }) => reported.push({ status, detail, isFinal });
    const state = (name) => (name === "closed" ? resolve(connection) : name === "waiting" && queueMicrotask(() => connection.nudge()));
    const ask = token && ((reason) => (reasons.push(reason), token));
    const settings = { address: "http://broker/subscribe/greeting", silence: 45_000, token: ask ?? "fixed", fetch };
    const connection = new Connection(settings, undefined, { ...SINK, failed, state });
  });
  connection.close();
  return { reported, reasons, unasked: responses.length };
}

const PROXY_TYPES = ["text/html", "text/plain; charset=utf-8", "application/json", null];

test("a proxy's response is reported and retried", async () => {
  for (const token of [undefined, "asked for"]) {
    for (const status of [400, 401, 403, 404, 405, 407, 410, 500, 502, 503, 504]) {
      const responses = PROXY_TYPES.map((type) => () => {
        const response = new Response('{"title":"not the broker\'s","detail":"nor this"}', { status });
        if (type) response.headers.set("Content-Type", type);
        else response.headers.delete("Content-Type");
        return response;
      });
      const { reported, unasked } = await outcomes(responses, token);
      assert.deepEqual(reported, PROXY_TYPES.map(() => ({ status, detail: undefined, isFinal: false })));
      assert.equal(unasked, 0);
    }
  }
});

const problem = (status) => () => new Response('{"title":"no","detail":"why"}', { status, headers: PROBLEM });

test("a refusal is final, unless it is temporary or another token may help", async () => {
  for (const status of [400, 401, 403, 404, 405]) {
    const { reported, unasked } = await outcomes([problem(status), problem(status)]);
    assert.deepEqual([reported, unasked], [[{ status, detail: "why", isFinal: true }], 1]);
  }
  for (const status of [408, 425, 429, 500, 503]) {
    const { reported } = await outcomes([problem(status), problem(status)]);
    assert.deepEqual(reported.map(({ isFinal }) => isFinal), [false, false], status);
  }
  const { reported, reasons } = await outcomes([problem(401), problem(401)], "asked for");
  assert.deepEqual(reported.map(({ isFinal }) => isFinal), [false, false]);
  assert.deepEqual(reasons, ["start", "refused", "refused"]);
});

/** Returns how often a shared stream sends requests if the handler closes it in this role. */
async function attemptsOfOneWhoClosesAs(wanted) {
  const roles = [];
  let count = 0;
  const fetch = async (_, { signal }) => ((count += 1), never(signal));
  const onRole = (role) => (roles.push(role), role === wanted && stream.close());
  const stream = connect("http://broker/", { topics: ["greeting"], shared: true, fetch, onRole });
  await sleep(100);
  stream.close();
  return { count, roles };
}

test("a stream closed while its role is reported opens no connection", async () => {
  // A lock is never granted immediately.
  const locks = { request: async (_name, _how, act) => (await null, act()) };
  const leave = enterPage({ locks });
  assert.deepEqual(await attemptsOfOneWhoClosesAs("follower"), { count: 0, roles: ["follower"] });
  assert.deepEqual(await attemptsOfOneWhoClosesAs("leader"), { count: 0, roles: ["follower", "leader"] });
  assert.deepEqual(await attemptsOfOneWhoClosesAs("none"), { count: 1, roles: ["follower", "leader"] });
  leave();
});
