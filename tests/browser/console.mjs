// Shared by the console's tests: pages of it in which no error may occur, and helpers for using them.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, test } from "node:test";

import { TIMEOUT, startBroker, startBrowser } from "./support.mjs";

export const SECRETS = { ESKER_PUBLISHER_SECRET: "p".repeat(40), ESKER_SUBSCRIBER_SECRET: "s".repeat(40) };
export const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 360, height: 740 };

let browser;

/** Closed after each test, so that no page keeps sending requests to a broker that has stopped. */
const contexts = [];

before(async () => (browser = await startBrowser()));
after(() => browser.close());

/** Opens the console in a context of its own; `faults` collects errors. */
export async function open(url, { hash = "", viewport = WIDE, expected = [], ...how } = {}) {
  const context = await browser.newContext({ viewport, ...how });
  contexts.push(context);
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.stack));
  page.on("console", (message) => {
    const isExpected = expected.some((part) => message.text().includes(part));
    if (message.type() === "error" && !isExpected) faults.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) faults.push(`asked ${request.url()}`);
  });
  page.setDefaultTimeout(TIMEOUT);
  await page.goto(`${url}${hash}`);
  return { page, faults };
}

export const form = (page, name) => page.locator(`#${name}`);
export const press = (page, name) => page.getByRole("button", { name, exact: true }).click();
export const tab = (page, name) => page.getByRole("tab", { name }).click();
export const field = (page, formName, name) => form(page, formName).locator(`[name=${name}]`);
export const rows = (page) => page.locator("#rows > li");

/** Waits until an element contains this text. */
export async function says(page, selector, part) {
  const place = page.locator(selector).first();
  const is = (text) => (part instanceof RegExp ? part.test(text) : text.includes(part));
  const end = Date.now() + TIMEOUT;
  let text = "";
  while (Date.now() < end) {
    text = (await place.textContent().catch(() => "")) ?? "";
    if (is(text)) return text;
    await page.waitForTimeout(25);
  }
  assert.fail(`${selector} never says ${part}, but: ${text}`);
}

export async function subscribe(page) {
  await press(page, "Subscribe");
  await says(page, "#state", "Live");
}

export async function insert(broker, event, data) {
  const how = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ event, data }) };
  assert.equal((await fetch(`${broker.url}/insert`, how)).status, 200);
}

/** Makes a token as a backend would. */
export function token(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

export async function closePages() {
  for (const context of contexts.splice(0)) {
    for (const page of context.pages()) await page.unrouteAll({ behavior: "ignoreErrors" });
    await context.close();
  }
}

/** Runs a test with a broker of its own. */
export function withBroker(name, how, body) {
  test(name, { timeout: TIMEOUT * 3 }, async () => {
    const broker = await startBroker(how);
    try {
      await body(broker);
    } finally {
      await closePages();
      await broker.stop();
    }
  });
}
