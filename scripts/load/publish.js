// Publishes ESKER_RATE events per second with k6, to each topic in turn, whether or not the broker keeps up.

import http from "k6/http";
import { check } from "k6";
import exec from "k6/execution";
import { bytes, openLoop, publisher, strict, topics, url } from "./settings.js";

export const options = { scenarios: { publish: openLoop() }, thresholds: strict };

const body = `data: ${"x".repeat(bytes)}`;

export default function () {
  const topic = topics[exec.scenario.iterationInTest % topics.length];
  const response = http.post(`${url}/publish/${topic}`, body, { headers: publisher, timeout: "10s" });
  check(response, { "is accepted": (response) => response.status === 200 && response.json("events") === 1 });
}
