// Runs README's and the guide's code for pages unchanged in a browser, except for the broker's port. tests/contract/docs/
// checks that no such block is missing here.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { after, before, test } from "node:test";

import { TIMEOUT, publish, root, startBroker, startBrowser } from "./support.mjs";

const SECRETS = {
  ESKER_PUBLISHER_SECRET: "the publisher's secret, of 32 bytes or more",
  ESKER_SUBSCRIBER_SECRET: "the subscriber's secret, of 32 bytes or more",
};

let browser;
before(async () => {
  browser = await startBrowser();
});
after(() => browser.close());

/** Returns a page's only block in this language that contains `part`. */
function block(page, language, part) {
  const file = page === "README.md" ? page : path.join("src/guide", page);
  const text = readFileSync(path.join(root, file), "utf8");
  const blocks = [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].filter((found) => found[1] === language);
  const fitting = blocks.map((found) => found[2]).filter((code) => code.includes(part));
  assert.equal(fitting.length, 1, `${page} has one block in ${language} with ${part}`);
  return fitting[0];
}

/** Opens a page on `localhost` with an origin of its own, so that its cookies are sent to the broker as well. Its log is kept. */
async function open(html) {
  const server = createServer((_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end(html));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://localhost:${server.address().port}`;
  const context = await browser.newContext();
  const page = await context.newPage();
  const log = [];
  page.on("console", (message) => log.push(message.text()));
  page.on("pageerror", (error) => log.push(`error: ${error.message}`));
  const close = async () => {
    await context.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { origin, page, context, log, close };
}

async function until(what, is) {
  const end = Date.now() + TIMEOUT;
  while (!(await is())) {
    if (Date.now() > end) assert.fail(`never: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Waits until the page has logged a line that contains `part`. */
const logged = (site, part) => until(() => `${part} in ${site.log.join("\n")}`, () => site.log.some((line) => line.includes(part)));

const subscribed = async (broker, count) => {
  const count_now = async () => (await (await fetch(`${broker.url}/stats`)).json()).subscribers;
  await until(() => `${count} subscribers`, async () => (await count_now()) === count);
};

/** Makes a token with `esker token`. */
function mint(...names) {
  return execFileSync(process.env.ESKER, ["token", ...names], { env: { ...process.env, ...SECRETS }, encoding: "utf8" }).trim();
}

async function publishWithToken(broker, text) {
  const headers = { Authorization: `Bearer ${mint("--publish", "greeting")}`, "Content-Type": "text/event-stream" };
  const response = await fetch(`${broker.url}/publish/greeting`, { method: "POST", body: text, headers });
  assert.equal(response.status, 200);
  return response.json();
}

test("the README's page receives unnamed and named events, and a gap", { timeout: 4 * TIMEOUT }, async () => {
  const code = block("README.md", "html", "new EventSource(\"http://127.0.0.1:3000/subscribe/greeting?prime\")");
  let broker = await startBroker({ arguments: ["--retry", "50ms"] });
  const site = await open(code.replace("http://127.0.0.1:3000", broker.url));
  try {
    await site.page.goto(site.origin);
    await subscribed(broker, 1);
    const { id } = await publish(broker, "greeting", "event: greeting\ndata: hello");
    await logged(site, `${id} hello`);
    const second = await publish(broker, "greeting", "data: without a name");
    await logged(site, `${second.id} without a name`);
    await broker.stop({ keep: true, signal: "SIGKILL" });
    broker = await startBroker({ port: new URL(broker.url).port, home: broker.home });
    await logged(site, "events may be missing");
    assert.deepEqual(site.log.filter((line) => line.startsWith("error: ")), []);
  } finally {
    await site.close();
    await broker.stop();
  }
});

test("the guide's page shows events, reloads after a gap, and gives up when refused", { timeout: 4 * TIMEOUT }, async () => {
  const code = block("resume.md", "js", "loadEverything()");
  const helpers = 'const show = (data) => console.log("shown", data), loadEverything = () => console.log("all"), giveUp = () => console.log("gave up");';
  let broker = await startBroker({ arguments: ["--retry", "50ms"] });
  const here = code.replace("http://127.0.0.1:3000", broker.url);
  const site = await open(`<script>${helpers}${here}</script>`);
  const refused = await open(`<script>${helpers}${here.replace("greeting?", "short?")}</script>`);
  try {
    await site.page.goto(site.origin);
    await subscribed(broker, 1);
    await publish(broker, "greeting", "data: hello");
    await logged(site, "shown hello");
    await broker.stop({ keep: true, signal: "SIGKILL" });
    broker = await startBroker({ port: new URL(broker.url).port, home: broker.home });
    await logged(site, "all");
    await refused.page.goto(refused.origin);
    await logged(refused, "gave up");
    assert.ok(!site.log.includes("gave up"));
  } finally {
    await Promise.all([site.close(), refused.close()]);
    await broker.stop();
  }
});

test("the guide's page makes a new EventSource when a refused reconnection has ended the old one", { timeout: 4 * TIMEOUT }, async () => {
  const code = block("upgrading.md", "js", "setTimeout(listen, 3000, position)");
  let broker = await startBroker({ arguments: ["--retry", "50ms"] });
  const script = `const show = (data) => console.log("shown", data); ${code.replace("http://127.0.0.1:3000", broker.url)}`;
  const site = await open(`<script>${script}</script>`);
  try {
    await site.page.goto(site.origin);
    await subscribed(broker, 1);
    await publish(broker, "greeting", "data: hello");
    await logged(site, "shown hello");
    // The end of the stream is not a failure; the first reconnection is.
    const refused = site.page.waitForEvent("requestfailed");
    await broker.stop({ keep: true });
    await refused;
    broker = await startBroker({ port: new URL(broker.url).port, home: broker.home });
    await publish(broker, "greeting", "data: while it was away");
    await logged(site, "shown while it was away");
  } finally {
    await site.close();
    await broker.stop();
  }
});

test("the guide's page subscribes with a cookie", { timeout: 4 * TIMEOUT }, async () => {
  const code = block("tokens.md", "js", "withCredentials: true");
  const site = await open("");
  const broker = await startBroker({ tokens: true, environment: SECRETS, arguments: ["--origin", site.origin] });
  try {
    const stream = broker.url.replace("127.0.0.1", "localhost");
    await site.context.addCookies([{ name: "esker_token", value: mint("--subscribe", "greeting"), domain: "localhost", path: "/", httpOnly: true }]);
    await site.page.goto(site.origin);
    const listening = `${code.replace("https://events.example.com", stream)}
      source.onopen = () => console.log("open");
      source.onmessage = (event) => console.log(event.data);`;
    await site.page.addScriptTag({ content: listening });
    await logged(site, "open");
    await publishWithToken(broker, "data: by cookie");
    await logged(site, "by cookie");
  } finally {
    await site.close();
    await broker.stop();
  }
});

test("the guide's page gets a new token when the old one expires, and loses nothing", { timeout: 4 * TIMEOUT }, async () => {
  const code = block("tokens.md", "js", "async function listen(position)");
  const site = await open("");
  const broker = await startBroker({ tokens: true, environment: SECRETS, arguments: ["--origin", site.origin] });
  try {
    let minted = 0;
    await site.page.route("**/token", (route) => {
      minted += 1;
      // The first tokens expire soon, so that the page is disconnected by them.
      return route.fulfill({ body: mint("--subscribe", "greeting", "--ttl", minted < 3 ? "2s" : "1h") });
    });
    await site.page.goto(site.origin);
    await site.page.addScriptTag({ content: code.replace("http://127.0.0.1:3000", broker.url) });
    const published = [];
    await until(() => `a second token, ${minted}`, async () => {
      published.push(String(published.length));
      await publishWithToken(broker, `data: ${published.at(-1)}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
      return minted === 3;
    });
    await publishWithToken(broker, "data: last");
    await logged(site, "last");
    const received = site.log.filter((line) => /^\d+$/.test(line));
    // Events published before the page subscribed don't count.
    assert.deepEqual(received, published.slice(published.indexOf(received[0])));
    assert.ok(received.length > 3, received.join());
  } finally {
    await site.close();
    await broker.stop();
  }
});
