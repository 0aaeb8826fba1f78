// Access to the broker: one stream, storing a value, and reading all its versions. Independent of the form.

import { connect } from "../../client/esker.js";

const BROKER = new URL(import.meta.env.VITE_ESKER_URL ?? "http://127.0.0.1:3000");
/** Versions per page of the audit. */
const PAGE = 100;
/** Browsers send at most 64 KiB for a closing page. */
const MOST_KEPT_ALIVE = 16_384;

/** Streams the newest record of each of these names, then every new one. */
export const listen = (names, callbacks) => connect(BROKER, { records: names, ...callbacks });

/** Smaller than every id: there is no version. */
export const NEVER = "0";

/** The broker's answer to an insert whose condition is false: `newest` is the id of the newest version. */
export class Conflict extends Error {
  constructor(newest) {
    super("another window was first");
    this.newest = newest;
  }
}

/** An answer that says that the request will never succeed, in contrast to no answer at all. */
export class Refused extends Error {}

/**
 * Stores a value if `seen` is still the newest version, and returns its id. A repetition with the same key stores nothing
 * again. With `keepalive`, it is sent even if the page closes.
 */
export async function insert(event, data, { seen, key }) {
  const body = JSON.stringify({ event, data });
  const condition = seen === NEVER ? { "If-None-Match": "*" } : { "If-Match": `"${seen}"` };
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key, ...condition };
  const request = { method: "POST", headers, body, keepalive: body.length < MOST_KEPT_ALIVE };
  return (await ask(new URL("insert", BROKER), request)).body.id;
}

/** Returns a new key for an insert and its repetitions. */
export const newKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16).padStart(8, "0")).join("");

/** Reads the versions of a record after an id, oldest first, page by page. */
export async function* versions(event, after, signal) {
  let next = new URL(`audit/${encodeURIComponent(event)}?after=${after}&limit=${PAGE}`, BROKER);
  while (next) {
    const { body, response } = await ask(next, { signal });
    // A key consists of the record's name, "_v_" and the id.
    yield Object.entries(body).map(([key, value]) => ({ id: key.slice(key.lastIndexOf("_") + 1), value }));
    next = nextPage(response);
  }
}

async function ask(url, request) {
  const response = await fetch(url, request).catch(() => {
    throw new Error("the broker can't be reached");
  });
  const body = await response.json().catch(() => ({}));
  if (response.status === 412) throw new Conflict(body.id ?? NEVER);
  const isFinal = response.status >= 400 && response.status < 500 && ![408, 429].includes(response.status);
  if (!response.ok) throw new (isFinal ? Refused : Error)(body.detail ?? `status ${response.status}`);
  return { body, response };
}

function nextPage(response) {
  const link = /<([^>]*)>\s*;\s*rel="next"/.exec(response.headers.get("Link") ?? "");
  return link && new URL(link[1], response.url);
}

/** Compares ids as numbers. */
export const isNewer = (id, than) => BigInt(id) > BigInt(than);

/** Returns the time in an id, which is in microseconds since 1970. */
export const timeOf = (id) => new Date(Number(BigInt(id) / 1000n));
