// The client module's connection, without a browser and without a broker: when it asks again, and when not at all.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { root } from "./support.mjs";

const load = (file) => import(pathToFileURL(path.join(root, "scripts/client", file)));
const { Connection } = await load("connection.js");
const { connect } = await load("esker.js");

const SINK = { event() {}, moved() {}, gap() {}, expired() {}, state() {}, failed() {} };
/** More milliseconds than a timer can wait. */
const MONTHS = 4_000_000_000;

/** How often a connection asks in a short time, if it is answered like that. */
async function attempts(answer, millis = 200) {
  let count = 0;
  const fetch = async () => ((count += 1), answer());
  const settings = { address: "http://broker/subscribe/greeting", silence: 45_000, fetch };
  const connection = new Connection(settings, undefined, SINK);
  await sleep(millis);
  connection.close();
  return count;
}

const stream = (text) => () => new Response(text, { headers: { "Content-Type": "text/event-stream" } });

test("whoever is told to come back in months does not come back at once", async () => {
  assert.equal(await attempts(stream(`retry: ${MONTHS}\n\n`)), 1);
  assert.equal(await attempts(() => new Response("", { status: 503, headers: { "Retry-After": String(MONTHS / 1000) } })), 1);
  assert.ok((await attempts(stream("retry: 100\n\n"), 400)) > 1, "and whoever is told to come back soon does");
});

test("whoever is told to come back at once waits all the same, and longer each time", async () => {
  for (const answer of [stream("retry: 0\n\n"), stream("retry: 0\ndata: again\n\n")]) {
    const count = await attempts(answer, 1000);
    assert.ok(count >= 2 && count <= 4, `asked ${count} times in a second`);
  }
});

/** How often a stream that is to be shared asks, if whoever is told its role closes it at this one. */
async function attemptsOfOneWhoClosesAs(wanted) {
  const told = [];
  let count = 0;
  const fetch = async () => ((count += 1), new Promise(() => {}));
  const onRole = (role) => (told.push(role), role === wanted && stream.close());
  const stream = connect("http://broker/", { topics: ["greeting"], fetch, onRole });
  await sleep(100);
  stream.close();
  return { count, told };
}

test("a stream that is closed when its role is told has no connection", async () => {
  // A lock is never granted at once.
  const locks = { request: async (_name, _how, act) => (await null, act()) };
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  assert.deepEqual(await attemptsOfOneWhoClosesAs("follower"), { count: 0, told: ["follower"] });
  assert.deepEqual(await attemptsOfOneWhoClosesAs("leader"), { count: 0, told: ["follower", "leader"] });
  assert.deepEqual(await attemptsOfOneWhoClosesAs("none"), { count: 1, told: ["follower", "leader"] });
});
