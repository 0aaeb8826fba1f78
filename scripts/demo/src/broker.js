// The broker as the demo needs it: one stream, storing a value, and reading all versions of it. Refuses to know the form.

import { connect } from "../../client/esker.js";

const BROKER = new URL(import.meta.env.VITE_ESKER_URL ?? "http://127.0.0.1:3000");
/** Versions on a page of the audit. */
const PAGE = 100;
/** Browsers send no more than 64 KiB for a page that goes. */
const MOST_KEPT_ALIVE = 16_384;

/** The newest record of each of these names, and then every new one. */
export const listen = (names, callbacks) => connect(BROKER, { records: names, ...callbacks });

/** Stores a value and answers its id. With `keepalive` it is sent even if the page goes. */
export async function insert(event, data) {
  const body = JSON.stringify({ event, data });
  const headers = { "Content-Type": "application/json" };
  const request = { method: "POST", headers, body, keepalive: body.length < MOST_KEPT_ALIVE };
  return (await ask(new URL("insert", BROKER), request)).answer.id;
}

/** The versions of a record after an id, oldest first, page by page. */
export async function* versions(event, after, signal) {
  let next = new URL(`audit/${encodeURIComponent(event)}?after=${after}&limit=${PAGE}`, BROKER);
  while (next) {
    const { answer, response } = await ask(next, { signal });
    // A key is the record's name, "_v_" and the id.
    yield Object.entries(answer).map(([key, value]) => ({ id: key.slice(key.lastIndexOf("_") + 1), value }));
    next = nextPage(response);
  }
}

async function ask(url, request) {
  const response = await fetch(url, request).catch(() => {
    throw new Error("the broker can't be reached");
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `status ${response.status}`);
  return { answer, response };
}

function nextPage(response) {
  const link = /<([^>]*)>\s*;\s*rel="next"/.exec(response.headers.get("Link") ?? "");
  return link && new URL(link[1], response.url);
}

/** Ids are in order as numbers. */
export const isNewer = (id, than) => BigInt(id) > BigInt(than);

/** An id is a time, too: microseconds since 1970. */
export const timeOf = (id) => new Date(Number(BigInt(id) / 1000n));
