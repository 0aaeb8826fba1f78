// Simulates ESKER_SUBSCRIBERS clients with a bad network: each stream is cut about every ESKER_CUT_MS and resumed, while events
// are published at ESKER_RATE. Counts events that are lost, duplicated or out of order.
//
// k6 returns a response only when it is complete, which a stream never is. When a request times out, however, k6 returns what
// has arrived until then. So each cut is a timeout, and the arrival time of an event is unknown; use subscribers.py for that.

import http from "k6/http";
import { sleep } from "k6";
import { Counter, Trend } from "k6/metrics";
import exec from "k6/execution";
import { bytes, cut, duration, openLoop, publisher, subscriber, subscribers, topics, url } from "./settings.js";

const TIMED_OUT = 1050;

const received = new Counter("events_received");
const lost = new Counter("events_lost");
const doubled = new Counter("events_doubled");
const gaps = new Counter("gaps");
const refused = new Counter("streams_refused");
const ended = new Counter("streams_ended");
const unanswered = new Counter("streams_cut_before_answer");
const unpublished = new Counter("publishes_refused");
const opened = new Trend("stream_opening", true);

export const options = {
  scenarios: {
    // A single publisher, so that its numbers define the order.
    publish: openLoop({ exec: "publish", preAllocatedVUs: 1, maxVUs: 1 }),
    subscribe: {
      executor: "constant-vus",
      exec: "subscribe",
      vus: subscribers,
      duration,
      gracefulStop: `${2 * cut}ms`,
    },
  },
  thresholds: {
    events_received: ["count>0"],
    events_lost: ["count==0"],
    events_doubled: ["count==0"],
    gaps: ["count==0"],
    streams_refused: ["count==0"],
    streams_ended: ["count==0"],
    publishes_refused: ["count==0"],
  },
};

// These exist once per virtual user.
let published = 0;
let position = "";
let last = null;

export function publish() {
  published += 1;
  const body = `data: ${published} ${"x".repeat(bytes)}`;
  const response = http.post(`${url}/publish/${topics[0]}`, body, { headers: publisher, timeout: "10s" });
  unpublished.add(response.status === 200 ? 0 : 1);
  if (response.status !== 200) exec.test.abort(`a publish got ${response.status} ${response.error}`);
}

export function subscribe() {
  const headers = position ? { ...subscriber, "Last-Event-ID": position } : subscriber;
  const timeout = `${Math.ceil(cut * (0.5 + Math.random()))}ms`;
  const path = `${url}/subscribe/${topics[0]}?prime`;
  const response = http.get(path, { headers, timeout, responseCallback: null, tags: { name: "stream" } });
  const cutOff = response.error_code === TIMED_OUT;
  const atItsEnd = response.status === 200;
  refused.add(cutOff || atItsEnd ? 0 : 1);
  ended.add(atItsEnd ? 1 : 0);
  if (!cutOff && !atItsEnd) exec.test.abort(`a stream got ${response.status} ${response.error}`);
  unanswered.add(response.body ? 0 : 1);
  if (response.body) opened.add(response.timings.waiting);
  received.add(read(response.body || ""));
  // A broker that is full or stopping ends streams; don't reconnect immediately.
  if (atItsEnd) sleep(1);
}

// Processes every complete event (the last one may be cut off) and returns their number.
function read(text) {
  const blocks = text.split("\n\n").slice(0, -1);
  return blocks.map(take).filter(Boolean).length;
}

// Returns whether the block is an event of this run's publisher.
function take(block) {
  const lines = block.split("\n");
  if (lines.includes("event: gap")) gaps.add(1);
  const id = field(lines, "id: ");
  if (id === null) return false;
  position = id;
  const data = field(lines, "data: ");
  if (data === null) return false;
  verify(parseInt(data, 10));
  return true;
}

function field(lines, start) {
  const line = lines.find((line) => line.startsWith(start));
  return line === undefined ? null : line.slice(start.length);
}

function verify(number) {
  if (last !== null && number > last + 1) lost.add(number - last - 1);
  if (last !== null && number <= last) doubled.add(1);
  else last = number;
}
