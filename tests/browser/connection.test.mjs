// The client module's connection, without a browser and without a broker: when it asks again.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { root } from "./support.mjs";

const { Connection } = await import(pathToFileURL(path.join(root, "scripts/client/connection.js")));

const SINK = { event() {}, moved() {}, gap() {}, expired() {}, state() {}, failed() {} };
/** More milliseconds than a timer can wait. */
const MONTHS = 4_000_000_000;

/** How often a connection asks in a short time, if it is answered like that. */
async function attempts(answer) {
  let count = 0;
  const fetch = async () => ((count += 1), answer());
  const settings = { address: "http://broker/subscribe/greeting", silence: 45_000, fetch };
  const connection = new Connection(settings, undefined, SINK);
  await sleep(200);
  connection.close();
  return count;
}

const stream = (text) => () => new Response(text, { headers: { "Content-Type": "text/event-stream" } });

test("whoever is told to come back in months does not come back at once", async () => {
  assert.equal(await attempts(stream(`retry: ${MONTHS}\n\n`)), 1);
  assert.equal(await attempts(() => new Response("", { status: 503, headers: { "Retry-After": String(MONTHS / 1000) } })), 1);
  assert.ok((await attempts(stream("retry: 20\n\n"))) > 2, "and whoever is told to come back soon does");
});
