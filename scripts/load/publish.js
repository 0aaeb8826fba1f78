// k6 publishes ESKER_RATE events a second, in turn to each topic, whether or not the broker keeps up.

import http from "k6/http";
import { check } from "k6";
import exec from "k6/execution";
import { bytes, openLoop, publisher, strict, topics, url } from "./settings.js";

export const options = { scenarios: { publish: openLoop() }, thresholds: strict };

const body = `data: ${"x".repeat(bytes)}`;

export default function () {
  const topic = topics[exec.scenario.iterationInTest % topics.length];
  const answer = http.post(`${url}/publish/${topic}`, body, { headers: publisher, timeout: "10s" });
  check(answer, { "is accepted": (answer) => answer.status === 200 && answer.json("events") === 1 });
}
