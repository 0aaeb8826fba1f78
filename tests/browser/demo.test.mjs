// The demo in two windows of two people: each sees what the other types, a reload shows the newest values, the history has
// every version, and the page reconnects to a restarted broker. Its pictures are for visual review.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { BROWSER, TIMEOUT, serveFolder, shoot, startBroker, startBrowser } from "./support.mjs";

const LIMIT = { timeout: TIMEOUT * 3 };
const demo = path.join(import.meta.dirname, "demo");

let browser;
let broker;
let vite;
let server;
let url;

before(async () => {
  broker = await startBroker({ arguments: ["--retry", "200ms"] });
  browser = await startBrowser();
  process.env.VITE_ESKER_URL = broker.url;
  vite = await import(path.join(demo, "node_modules/vite/dist/node/index.js"));
  // As in `make client`, except for the port.
  server = await vite.createServer({ root: demo, logLevel: "warn", server: { host: "127.0.0.1", port: 0 } });
  await server.listen();
  url = `http://127.0.0.1:${server.httpServer.address().port}/`;
});

after(async () => {
  await browser?.close();
  await server?.close();
  await broker?.stop();
});

/** Opens another person's window, in which no error may occur. */
async function openWindow(at = url, look = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", ...look });
  const page = await context.newPage();
  page.errors = [];
  // Firefox reports a refused connection like this, though the page's own code handles it.
  const isNetwork = (error) => String(error).includes("Cross-Origin Request Blocked");
  page.on("pageerror", (error) => isNetwork(error) || page.errors.push(String(error)));
  await page.goto(at);
  await page.getByText("Live").waitFor();
  return page;
}

async function closeWindows(...pages) {
  for (const page of pages) {
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }
}

const input = (page, label) => page.getByRole("form").getByLabel(label, { exact: true });
/** Replaces a field's content as pasting does: React doesn't notice a value set through WebDriver BiDi, and Firefox has no keys for that. */
const write = (page, label, text) =>
  input(page, label).evaluate((field, text) => {
    field.select();
    document.execCommand("insertText", false, text);
  }, text);

const versions = (page) => page.locator(".history li");

async function eventually(wanted, look) {
  const end = Date.now() + TIMEOUT;
  let seen = await look();
  while (seen !== wanted && Date.now() < end) {
    await sleep(30);
    seen = await look();
  }
  assert.equal(seen, wanted);
}

const shows = (page, label, value) => eventually(value, () => input(page, label).inputValue());

/** Returns what the page says about a field's value, without the time. */
const fate = (page, name, words) =>
  eventually(words, async () => (await page.locator(`[data-name="${name}"] .save-state`).textContent()).replace(/ \d.*/, ""));

async function insert(event, data) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`${broker.url}/insert`, { method: "POST", headers, body: JSON.stringify({ event, data }) });
  assert.equal(response.status, 200);
}

test("changes in one window appear in the other, and after a reload", LIMIT, async () => {
  const one = await openWindow();
  const other = await openWindow();
  await input(one, "Name").pressSequentially("Grace Hopper", { delay: 30 });
  await shows(other, "Name", "Grace Hopper");
  await write(other, "What should we know?", "two lines\nof text, and ä€😀");
  await shows(one, "What should we know?", "two lines\nof text, and ä€😀");
  await one.getByRole("radio", { name: "XL" }).click();
  await eventually(true, () => other.getByRole("radio", { name: "XL" }).isChecked());
  await input(one, "Vegetarian meals").check();
  await eventually(true, () => input(other, "Vegetarian meals").isChecked());
  await fate(other, "form.vegetarian", "changed elsewhere");
  await fate(one, "form.vegetarian", "stored");
  await input(one, "Nights in the hotel").focus();
  for (let press = 0; press < 3; press++) await one.keyboard.press("ArrowRight");
  await shows(other, "Nights in the hotel", "5");
  await other.reload();
  await shows(other, "Name", "Grace Hopper");
  await fate(other, "form.name", "stored");
  await shows(other, "Nights in the hotel", "5");
  assert.equal(await input(other, "Vegetarian meals").isChecked(), true);
  await closeWindows(one, other);
});

test("each tab explains how it is connected", LIMIT, async () => {
  const one = await openWindow();
  await one.getByText("Connected to the broker for all your tabs of this page").waitFor();
  const other = await one.context().newPage();
  await other.goto(url);
  await other.getByText("Connected to the broker through another tab of this page").waitFor();
  await closeWindows(one);
});

test("incoming values don't disturb typing, and the newest value wins", LIMIT, async () => {
  const one = await openWindow();
  const other = await openWindow();
  // Each letter is typed while the previous one is being stored, so that every echo carries an older value.
  const email = "somebody@example.org";
  await input(one, "E-mail").pressSequentially(email, { delay: 355 });
  assert.equal(await input(one, "E-mail").inputValue(), email);
  await shows(other, "E-mail", email);

  await shows(one, "Name", "Grace Hopper");
  await input(one, "Name").evaluate((field) => (field.focus(), field.setSelectionRange(field.value.length, field.value.length)));
  const typing = one.keyboard.type(" and so on and on", { delay: 60 });
  await sleep(200);
  await insert("form.name", "from elsewhere");
  await typing;
  const mine = await input(one, "Name").inputValue();
  assert.match(mine, /^Grace Hopper and so on and on$/);
  await shows(other, "Name", mine);
  await input(one, "Name").focus();
  await insert("form.name", "the last word");
  await shows(one, "Name", "the last word");
  assert.equal(await input(one, "Name").evaluate((it) => it === document.activeElement), true);
  await closeWindows(one, other);
});

test("the last input is stored even if the window closes immediately", LIMIT, async () => {
  const one = await openWindow();
  const other = await openWindow();
  await write(one, "Name", "gone at once");
  await one.goto("about:blank");
  await shows(other, "Name", "gone at once");
  await closeWindows(one, other);
});

test("the history has every version, page by page, and can restore one", LIMIT, async () => {
  for (let version = 1; version <= 230; version++) await insert("form.nights", version % 8);
  const one = await openWindow();
  await one.getByRole("button", { name: "History of Nights" }).click();
  await eventually(true, async () => Number.parseInt(await one.locator(".count").textContent()) >= 230);
  await one.getByRole("button", { name: /^Show 25 older of/ }).click();
  assert.equal(await versions(one).count(), 50);

  await one.getByRole("button", { name: "History of What should" }).click();
  await versions(one).first().waitFor();
  const count = await versions(one).count();
  await write(one, "What should we know?", "a newer note");
  await eventually(count + 1, () => versions(one).count());
  await versions(one).nth(1).getByRole("button").click();
  assert.equal(await versions(one).nth(1).locator(".whole .value").textContent(), "two lines\nof text, and ä€😀");
  await one.getByRole("button", { name: "Restore" }).click();
  await shows(one, "What should we know?", "two lines\nof text, and ä€😀");
  await eventually(count + 2, () => versions(one).count());
  await closeWindows(one);
});

test("the page reconnects to a restarted broker, and input in the meantime is stored", LIMIT, async () => {
  const one = await openWindow();
  const other = await openWindow();
  const { port } = new URL(broker.url);
  await broker.stop({ keep: true });
  await one.getByText("No connection").waitFor();
  await write(one, "Name", "typed without a broker");
  await one.getByText("not stored yet").waitFor();
  await shoot(one, "demo-no-connection");
  broker = await startBroker({ port: Number(port), home: broker.home, arguments: ["--retry", "200ms"] });
  await shows(other, "Name", "typed without a broker");
  await eventually(0, () => one.getByText("not stored yet").count());
  await closeWindows(one, other);
});

test("the demo renders in light and dark, wide and narrow", { ...LIMIT, skip: BROWSER !== "chromium" && "only Chromium is asked for a colour scheme" }, async () => {
  const names = ["Ada", "Ada Lovel", "Ada Lovelace", "Augusta Ada King", "Ada Lovelace"];
  for (const name of names) await insert("form.name", name);
  await insert("form.email", "ada@example.org");
  for (const colorScheme of ["light", "dark"]) {
    for (const [size, viewport] of [["wide", { width: 1280, height: 900 }], ["narrow", { width: 390, height: 844 }]]) {
      const page = await openWindow(url, { colorScheme, viewport });
      await versions(page).nth(2).getByRole("button").first().click();
      await shoot(page, `demo-${colorScheme}-${size}`);
      const spill = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.equal(spill, 0, "nothing sticks out at the side");
      await closeWindows(page);
    }
  }
});

test("the built demo behaves the same", LIMIT, async () => {
  await insert("form.name", "Ada Lovelace");
  const outDir = path.join(demo, "dist");
  await vite.build({ root: demo, logLevel: "warn", build: { outDir } });
  const site = await serveFolder(outDir);
  const page = await openWindow(site.url);
  await shows(page, "Name", "Ada Lovelace");
  await closeWindows(page);
  await site.close();
});
