// The demo in two windows of two people: each sees what the other types, who changes a field second decides what remains, a
// reload shows the newest values, the history has every version, and the page reconnects to a restarted broker. Its pictures
// are for visual review.

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

test("incoming values don't disturb typing", LIMIT, async () => {
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
  await one.getByRole("button", { name: "Keep mine" }).click();
  await shows(other, "Name", mine);
  await input(one, "Name").focus();
  await insert("form.name", "the last word");
  await shows(one, "Name", "the last word");
  assert.equal(await input(one, "Name").evaluate((it) => it === document.activeElement), true);
  await closeWindows(one, other);
});

/** Holds the page's next insert back until `release` is called. `isSent` is fulfilled when the page has sent it. */
async function holdInsert(page) {
  const held = {};
  held.isSent = new Promise((resolve) => (held.send = resolve));
  const released = new Promise((resolve) => (held.release = resolve));
  await page.route("**/insert", async (route) => {
    if (route.request().method() === "POST") held.send();
    await released;
    await route.continue();
  });
  return held;
}

/** Lets two people change one field, whose newest version both have seen; the second one's insert is on hold. */
async function changeInBoth({ was, first, second }) {
  await insert("form.name", was);
  const pages = [await openWindow(), await openWindow()];
  for (const page of pages) await shows(page, "Name", was);
  const held = await holdInsert(pages[1]);
  await write(pages[1], "Name", second);
  await held.isSent;
  await write(pages[0], "Name", first);
  await fate(pages[0], "form.name", "stored");
  return [...pages, held];
}

const conflict = (page) => page.getByRole("group", { name: "Two versions of Name" });
const choice = (page, name) => conflict(page).getByRole("button", { name });
const focused = (page) => page.evaluate(() => document.activeElement.textContent || document.activeElement.id);

/** Returns the values of all versions of a field. */
const audit = async (event) => Object.values(await (await fetch(`${broker.url}/audit/${event}?limit=10000`)).json());

test("the second window to change a field is told who was first, and may take their value", LIMIT, async () => {
  const texts = { was: "Ada", first: "Ada Lovelace, London", second: "Ada King of Lovelace, London" };
  const [one, other, held] = await changeInBoth(texts);
  const field = input(other, "Name");
  await field.focus();
  const place = await field.boundingBox();
  held.release();
  await conflict(other).getByRole("alert").waitFor();
  assert.match(await conflict(other).getByRole("alert").textContent(), /^Another window saved this field first, at \d\d:\d\d:\d\d\. /);
  assert.deepEqual(await field.boundingBox(), place, "what the user types in does not move");
  assert.equal(await field.inputValue(), texts.second);
  assert.equal(await focused(other), "form.name");
  await fate(other, "form.name", "not stored");

  await other.keyboard.press("Tab");
  assert.equal(await focused(other), "Show the difference");
  await other.keyboard.press("Enter");
  assert.deepEqual(await conflict(other).locator("dd").allTextContents(), [texts.second, texts.first]);
  assert.deepEqual(await conflict(other).locator("mark").allTextContents(), ["King of "]);
  await shoot(other, "demo-conflict");
  await other.keyboard.press("Tab");
  await other.keyboard.press("Tab");
  assert.equal(await focused(other), "Take theirs");
  await other.keyboard.press("Enter");
  await shows(other, "Name", texts.first);
  assert.equal(await focused(other), "form.name");
  await fate(other, "form.name", "changed elsewhere");
  assert.equal(await conflict(other).count(), 0);
  assert.deepEqual((await audit("form.name")).slice(-2), [texts.was, texts.first]);
  await closeWindows(one, other);
});

test("the second window may keep its own value, which is the next version", LIMIT, async () => {
  const texts = { was: "Grace", first: "Grace Hopper", second: "Rear Admiral Grace" };
  const [one, other, held] = await changeInBoth(texts);
  held.release();
  await conflict(other).waitFor();
  await write(other, "Name", "Rear Admiral Grace Hopper");
  await insert("form.name", "a third one");
  await eventually("a third one", async () => {
    if ((await conflict(other).locator("dd").count()) === 0) await choice(other, "Show the difference").click();
    return conflict(other).locator("dd").last().textContent();
  });
  await choice(other, "Keep mine").click();
  await shows(one, "Name", "Rear Admiral Grace Hopper");
  await fate(other, "form.name", "stored");
  assert.equal(await conflict(other).count(), 0);
  const versions = [texts.was, texts.first, "a third one", "Rear Admiral Grace Hopper"];
  assert.deepEqual((await audit("form.name")).slice(-4), versions);
  await closeWindows(one, other);
});

test("of two windows that save at once, exactly one is first", LIMIT, async () => {
  await insert("form.name", "nobody");
  const pages = [await openWindow(), await openWindow()];
  const held = [];
  for (const [at, page] of pages.entries()) {
    await shows(page, "Name", "nobody");
    held.push(await holdInsert(page));
    await write(page, "Name", `window ${at}`);
  }
  await Promise.all(held.map(({ isSent }) => isSent));
  for (const { release } of held) release();
  const losers = async () => (await Promise.all(pages.map((page) => conflict(page).count()))).flatMap((count, at) => (count ? [at] : []));
  await eventually(1, async () => (await losers()).length);
  const [second] = await losers();
  const first = 1 - second;
  await fate(pages[first], "form.name", "stored");
  assert.deepEqual((await audit("form.name")).slice(-2), ["nobody", `window ${first}`]);
  await choice(pages[second], "Take theirs").click();
  for (const page of pages) await shows(page, "Name", `window ${first}`);
  await closeWindows(...pages);
});

test("an insert whose answer is lost is repeated with its key, and stored once", LIMIT, async () => {
  await insert("form.name", "before");
  const page = await openWindow();
  await shows(page, "Name", "before");
  const keys = [];
  await page.route("**/insert", async (route) => {
    const request = route.request();
    if (request.method() !== "POST") return route.continue();
    keys.push(request.headers()["idempotency-key"]);
    if (keys.length > 1) return route.continue();
    const names = ["content-type", "if-match", "idempotency-key"];
    const headers = Object.fromEntries(names.map((name) => [name, request.headers()[name]]));
    const body = JSON.stringify({ event: "form.name", data: "once" });
    assert.equal((await fetch(request.url(), { method: "POST", headers, body })).status, 200);
    await route.abort();
  });
  await write(page, "Name", "once");
  await page.getByText("not stored yet").waitFor();
  await write(page, "Name", "once and again");
  await fate(page, "form.name", "stored");
  assert.deepEqual((await audit("form.name")).slice(-3), ["before", "once", "once and again"]);
  assert.equal(keys.length, 3);
  assert.ok(keys[0] === keys[1] && keys[1] !== keys[2], String(keys));
  await closeWindows(page);
});

test("a difference has all of both texts", async () => {
  const { difference } = await import(path.join(demo, "src/difference.js"));
  const words = ["a", "b", " ", "c,", "\n", "ä😀"];
  const text = (seed) => Array.from({ length: seed % 9 }, (_, at) => words[(seed * (at + 7)) % 6]).join("");
  for (let seed = 0; seed < 500; seed += 1) {
    const [one, other] = [text(seed), text(seed * 31 + 5)];
    const parts = difference(one, other);
    assert.deepEqual(parts.map((side) => side.map((part) => part.text).join("")), [one, other]);
    const shared = parts.map((side) => side.flatMap((part) => (part.isShared ? part.text : [])).join(""));
    assert.equal(shared[0], shared[1]);
  }
});

test("the last input is stored even if the window closes immediately", LIMIT, async () => {
  const one = await openWindow();
  const other = await openWindow();
  await fate(one, "form.name", "stored");
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
