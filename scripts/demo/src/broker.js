// The broker as the demo needs it: one stream, storing a value, and reading all versions of it. Refuses to know the form.

import { connect } from "../../client/esker.js";

const BROKER = new URL(import.meta.env.VITE_ESKER_URL ?? "http://127.0.0.1:3000");
/** Versions on a page of the audit. */
const PAGE = 100;

/** The newest record of each of these names, and then every new one. */
export const listen = (names, callbacks) => connect(BROKER, { records: names, ...callbacks });

/** Stores a value and answers its id. With `keepalive` it is sent even if the page goes. */
export async function insert(event, data) {
  const body = JSON.stringify({ event, data });
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(new URL("insert", BROKER), { method: "POST", headers, body, keepalive: body.length < 32_768 });
  return (await read(response)).id;
}

/** The versions of a record after an id, oldest first, page by page. */
export async function* versions(event, after, signal) {
  let next = new URL(`audit/${encodeURIComponent(event)}?after=${after}&limit=${PAGE}`, BROKER);
  while (next) {
    const response = await fetch(next, { signal });
    const page = await read(response);
    // A key is the record's name, "_v_" and the id.
    yield Object.entries(page).map(([key, value]) => ({ id: key.slice(key.lastIndexOf("_") + 1), value }));
    next = nextPage(response);
  }
}

async function read(response) {
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail ?? problem.title ?? `status ${response.status}`);
}

function nextPage(response) {
  const link = /<([^>]*)>\s*;\s*rel="next"/.exec(response.headers.get("Link") ?? "");
  return link && new URL(link[1], response.url);
}

/** Ids are in order as numbers. */
export const isNewer = (id, than) => BigInt(id) > BigInt(than);

/** An id is a time, too: microseconds since 1970. */
export const timeOf = (id) => new Date(Number(BigInt(id) / 1000n));
