// Inserts ESKER_RATE records per second with ESKER_NAMES names using k6, and reads each one back from the audit as soon as it
// is acknowledged. The records stay stored.

import http from "k6/http";
import { check } from "k6";
import exec from "k6/execution";
import { bytes, name, names, openLoop, publisher, strict, subscriber, url } from "./settings.js";

export const options = { scenarios: { records: openLoop() }, thresholds: strict };

const filler = "x".repeat(bytes);
const asJson = { "Content-Type": "application/json" };

export default function () {
  const number = exec.scenario.iterationInTest;
  const event = `${name}-${number % names}`;
  const data = `${number} ${filler}`;
  const headers = { ...asJson, ...publisher };
  const stored = http.post(`${url}/insert`, JSON.stringify({ event, data }), { headers, timeout: "10s" });
  if (!check(stored, { "is stored": (response) => response.status === 200 })) return;
  const { id, key } = stored.json();
  const before = BigInt(id) - 1n;
  const path = `${url}/audit/${encodeURIComponent(event)}?after=${before}&limit=1`;
  const read = http.get(path, { headers: subscriber, timeout: "10s", tags: { name: "audit" } });
  check(read, { "is read back": (response) => response.status === 200 && response.json()[key] === data });
}
