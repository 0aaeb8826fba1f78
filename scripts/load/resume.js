// ESKER_SUBSCRIBERS clients with a bad network: each one's stream is cut again and again after some ESKER_CUT_MS, and
// resumed where it was, while events are published at ESKER_RATE. Whatever is lost, doubled or out of order is counted.
//
// k6 hands a response over when it is complete, and a stream never is: but when a request times out, what has come until
// then is handed over. So each cut is a timeout, and when an event came can't be told: for that there is subscribers.py.

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
    // One publisher, so that its numbers are the order.
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

// Each virtual user has these of its own.
let published = 0;
let position = "";
let last = null;

export function publish() {
  published += 1;
  const body = `data: ${published} ${"x".repeat(bytes)}`;
  const answer = http.post(`${url}/publish/${topics[0]}`, body, { headers: publisher, timeout: "10s" });
  unpublished.add(answer.status === 200 ? 0 : 1);
  if (answer.status !== 200) exec.test.abort(`a publish is answered with ${answer.status} ${answer.error}`);
}

export function subscribe() {
  const headers = position ? { ...subscriber, "Last-Event-ID": position } : subscriber;
  const timeout = `${Math.ceil(cut * (0.5 + Math.random()))}ms`;
  const path = `${url}/subscribe/${topics[0]}?prime`;
  const answer = http.get(path, { headers, timeout, responseCallback: null, tags: { name: "stream" } });
  const cutOff = answer.error_code === TIMED_OUT;
  const atItsEnd = answer.status === 200;
  refused.add(cutOff || atItsEnd ? 0 : 1);
  ended.add(atItsEnd ? 1 : 0);
  if (!cutOff && !atItsEnd) exec.test.abort(`a stream is answered with ${answer.status} ${answer.error}`);
  unanswered.add(answer.body ? 0 : 1);
  if (answer.body) opened.add(answer.timings.waiting);
  received.add(read(answer.body || ""));
  // A broker that is full or stopping ends streams, and wants nobody back at once.
  if (atItsEnd) sleep(1);
}

// Takes every whole event, for the last one may have been cut; how many there were.
function read(text) {
  const blocks = text.split("\n\n").slice(0, -1);
  return blocks.map(take).filter(Boolean).length;
}

// Whether the block is an event of this run's publisher.
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
