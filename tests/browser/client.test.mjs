// The client module in Chromium, as the tabs of one person have it: one connection for all of them, and whoever closes,
// crashes, hangs, or loses the network, each tab gets each event once and in order.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { PATIENCE, publish, root, serveFolder, startBroker, startBrowser } from "./support.mjs";

const LIMIT = { timeout: PATIENCE * 3 };
const TOPIC = "greeting";

let folder;
let site;
let browser;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "esker-client-"));
  await cp(path.join(root, "scripts/client"), folder, { recursive: true });
  await writeFile(path.join(folder, "index.html"), "<!doctype html><title>a tab</title>");
  site = await serveFolder(folder);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await site?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** A broker that remembers `history` events, the tabs of a person, and what closes both. */
async function scene({ history = 1_000, ...how }, play) {
  const common = ["--retry", "200ms", "--history", String(history)];
  const broker = await startBroker({ ...how, arguments: [...common, ...(how.arguments ?? [])] });
  const context = await browser.newContext();
  try {
    await play(broker, context);
  } finally {
    await context.close();
    await broker.stop();
  }
}

/** Opens a tab with a stream, all of which it is told is kept in `told`. */
async function openTab(context, url, options = {}) {
  const page = await context.newPage();
  await page.goto(site.url);
  await page.evaluate(listen, [url, { topics: options.records ? undefined : [TOPIC], ...options }]);
  return page;
}

/** In the page. */
async function listen([url, { asksForToken, ...options }]) {
  const { connect } = await import("/esker.js");
  const told = { events: [], ids: [], gaps: [], errors: [], states: [], expired: 0, reasons: [] };
  const token = (reason) => {
    told.reasons.push(reason);
    return globalThis.freshToken();
  };
  globalThis.told = told;
  globalThis.stream = connect(url, {
    ...options,
    ...(asksForToken && { token }),
    onEvent: (event) => (told.events.push(event.data), told.ids.push(event.id)),
    onGap: (gap) => told.gaps.push(gap),
    onExpired: () => (told.expired += 1),
    onError: ({ status, detail, isFinal }) => told.errors.push({ status, detail, isFinal }),
    onState: (state) => told.states.push(state),
  });
}

const told = (page) => page.evaluate(() => globalThis.told);
const events = async (page) => (await told(page)).events;
const role = (page) => page.evaluate(() => globalThis.stream.role);
const state = (page) => page.evaluate(() => globalThis.stream.state);
const stats = async (broker) => (await fetch(`${broker.url}/stats`)).json();

/** Waits until `look()` is `wanted`; shows the difference if it never is. */
async function eventually(wanted, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const seen = await look();
    try {
      return assert.deepEqual(seen, wanted);
    } catch (difference) {
      if (Date.now() > end) throw difference;
    }
    await sleep(30);
  }
}

const all = (pages, look) => () => Promise.all(pages.map(look));
const same = (pages, value) => pages.map(() => value);
const opened = (pages) => eventually(same(pages, "open"), all(pages, state));
/** "1", "2" … */
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => String(from + at));

async function publishNumbers(broker, from, to, topic = TOPIC) {
  for (const number of numbers(from, to)) await publish(broker, topic, `data: ${number}`);
}

async function threeTabs(context, url, options) {
  const pages = [];
  for (let tab = 0; tab < 3; tab++) pages.push(await openTab(context, url, options));
  await opened(pages);
  return pages;
}

/** The pages, the leader's first. */
async function leaderFirst(pages) {
  const roles = await Promise.all(pages.map(role));
  assert.equal(roles.filter((it) => it === "leader").length, 1, roles.join());
  const at = roles.indexOf("leader");
  return [pages[at], ...pages.filter((_, other) => other !== at)];
}

test("three tabs have one connection and each event once", LIMIT, () =>
  scene({}, async (broker, context) => {
    const pages = await threeTabs(context, broker.url);
    await publishNumbers(broker, 1, 200);
    await eventually(same(pages, numbers(1, 200)), all(pages, events));
    assert.equal((await stats(broker)).subscribers, 1);
    assert.equal((await stats(broker)).events_delivered, 200);
  }),
);

test("a leader that closes while events come is followed by another, without loss or double", LIMIT, () =>
  scene({}, async (broker, context) => {
    const [leader, ...others] = await leaderFirst(await threeTabs(context, broker.url));
    const published = publishNumbers(broker, 1, 400);
    await sleep(100);
    await leader.close();
    await published;
    await eventually(same(others, numbers(1, 400)), all(others, events));
    await eventually(1, async () => (await stats(broker)).subscribers);
  }),
);

test("so is a leader that crashes", LIMIT, () =>
  scene({}, async (broker, context) => {
    const [leader, ...others] = await leaderFirst(await threeTabs(context, broker.url));
    const crashed = new Promise((resolve) => leader.once("crash", resolve));
    const published = publishNumbers(broker, 1, 400);
    await sleep(100);
    leader.goto("chrome://crash").catch(() => {});
    await crashed;
    await published;
    await publishNumbers(broker, 401, 410);
    await eventually(same(others, numbers(1, 410)), all(others, events));
    await eventually(1, async () => (await stats(broker)).subscribers);
  }),
);

test("a leader that hangs is deposed, and gets what it missed when it wakes", LIMIT, () =>
  scene({}, async (broker, context) => {
    const pages = await leaderFirst(await threeTabs(context, broker.url));
    const [leader, ...others] = pages;
    await publishNumbers(broker, 1, 10);
    await eventually(same(pages, numbers(1, 10)), all(pages, events));
    const hang = () => {
      const end = Date.now() + 9_000;
      while (Date.now() < end);
    };
    await leader.evaluate((source) => void setTimeout(new Function(`(${source})()`)), hang.toString());
    await publishNumbers(broker, 11, 20);
    await others[0].evaluate(() => dispatchEvent(new Event("online")));
    await eventually(same(others, numbers(1, 20)), all(others, events));
    await publishNumbers(broker, 21, 30);
    await eventually(same(pages, numbers(1, 30)), all(pages, events));
    await leaderFirst(pages);
    await eventually(1, async () => (await stats(broker)).subscribers);
  }),
);

test("a tab that comes late with a position of its own gets what it is owed, and joins", LIMIT, () =>
  scene({}, async (broker, context) => {
    const early = await openTab(context, broker.url);
    await opened([early]);
    await publishNumbers(broker, 1, 20);
    await eventually(numbers(1, 20), () => events(early));
    const third = (await told(early)).ids[2];
    const fromThird = await openTab(context, broker.url, { position: third });
    const fromAll = await openTab(context, broker.url, { position: "0" });
    const live = await openTab(context, broker.url);
    await eventually(numbers(4, 20), () => events(fromThird));
    await eventually(numbers(1, 20), () => events(fromAll));
    await opened([live]);
    await eventually(1, async () => (await stats(broker)).subscribers);
    await publishNumbers(broker, 21, 25);
    await eventually(numbers(1, 25), () => events(fromAll));
    await eventually(numbers(4, 25), () => events(fromThird));
    await eventually(numbers(21, 25), () => events(live));
  }),
);

test("publishers' own ids, which are in no order, do as well", LIMIT, () =>
  scene({}, async (broker, context) => {
    const pages = await leaderFirst(await threeTabs(context, broker.url));
    const [leader, ...others] = pages;
    const send = (number) => publish(broker, TOPIC, `id: own-ä-${1000 - number}\ndata: ${number}`);
    for (let number = 1; number <= 50; number++) await send(number);
    await leader.close();
    for (let number = 51; number <= 100; number++) await send(number);
    await eventually(same(others, numbers(1, 100)), all(others, events));
    const late = await openTab(context, broker.url, { position: "own-ä-910" });
    await eventually(numbers(91, 100), () => events(late));
    await eventually(1, async () => (await stats(broker)).subscribers);
  }),
);

test("tabs with different topics hear theirs alone, and a set that changes loses nothing", LIMIT, () =>
  scene({}, async (broker, context) => {
    const both = { topics: [TOPIC, "Farewell1"] };
    const pages = [await openTab(context, broker.url, both), await openTab(context, broker.url, { topics: ["farewell1", TOPIC] })];
    const other = await openTab(context, broker.url, { topics: ["farewell1"] });
    await opened([...pages, other]);
    assert.equal((await stats(broker)).subscribers, 2);
    await publish(broker, TOPIC, "data: a");
    await publish(broker, "farewell1", "data: b");
    await eventually(["b"], () => events(other));
    await eventually(same(pages, ["a", "b"]), all(pages, events));

    const published = publishNumbers(broker, 1, 200, "farewell1");
    await other.evaluate((topic) => globalThis.stream.add(topic), TOPIC);
    await published;
    await publish(broker, TOPIC, "data: c");
    await eventually(["b", ...numbers(1, 200), "c"], () => events(other));
    await eventually(1, async () => (await stats(broker)).subscribers);

    await other.evaluate((topic) => globalThis.stream.remove(topic, "farewell1"), TOPIC);
    await eventually("idle", () => state(other));
    await publish(broker, TOPIC, "data: d");
    await other.evaluate((topic) => globalThis.stream.add(topic), TOPIC);
    await eventually("d", async () => (await events(other)).at(-1));
    await eventually("d", async () => (await events(pages[1])).at(-1));
  }),
);

test("handlers get the events of their name", LIMIT, () =>
  scene({}, async (broker, context) => {
    const page = await openTab(context, broker.url);
    await page.evaluate(() => {
      globalThis.byName = [];
      for (const name of ["greeting", "message", "gap"]) globalThis.stream.on(name, ({ data }) => globalThis.byName.push([name, data]));
      globalThis.stream.on("greeting", () => { throw new Error("one handler's failure is not another's"); });
      globalThis.stream.on("greeting", () => globalThis.byName.push("never"))();
    });
    await opened([page]);
    await publish(broker, TOPIC, "event: greeting\ndata: 1\n\ndata: 2\n\nevent: gap\ndata: 3\n\nevent: other\ndata: 4\n\nevent: greeting\ndata: 5");
    await eventually([["greeting", "1"], ["message", "2"], ["gap", "3"], ["greeting", "5"]], () => page.evaluate(() => globalThis.byName));
    assert.deepEqual((await told(page)).gaps, []);
  }),
);

test("a gap is told to every tab", LIMIT, () =>
  scene({ history: 5 }, async (broker, context) => {
    const proxy = await startProxy(broker.url);
    try {
      const pages = await threeTabs(context, proxy.url);
      await publishNumbers(broker, 1, 3);
      await eventually(same(pages, numbers(1, 3)), all(pages, events));
      proxy.block();
      await publishNumbers(broker, 4, 20);
      proxy.unblock();
      await eventually(same(pages, [...numbers(1, 3), ...numbers(16, 20)]), all(pages, events));
      const gaps = (await Promise.all(pages.map(told))).map(({ gaps }) => gaps);
      const { ids } = await told(pages[0]);
      assert.deepEqual(gaps, same(pages, [{ after: ids[2], oldest: ids[3] }]));
    } finally {
      await proxy.close();
    }
  }),
);

test("a network that goes and comes loses nothing", LIMIT, () =>
  scene({}, async (broker, context) => {
    const proxy = await startProxy(broker.url);
    try {
      const pages = await threeTabs(context, proxy.url);
      const published = publishNumbers(broker, 1, 300);
      for (let cut = 0; cut < 3; cut++) {
        await sleep(100);
        proxy.cut();
      }
      await context.setOffline(true);
      proxy.cut();
      await published;
      await eventually("waiting", async () => (await state(pages[0])).replace("connecting", "waiting"));
      await context.setOffline(false);
      await eventually(same(pages, numbers(1, 300)), all(pages, events));
      assert.equal((await stats(broker)).subscribers, 1);
    } finally {
      await proxy.close();
    }
  }),
);

test("a connection that has gone silent is replaced", LIMIT, () =>
  scene({ arguments: ["--heartbeat", "300ms"] }, async (broker, context) => {
    const proxy = await startProxy(broker.url);
    try {
      const page = await openTab(context, proxy.url, { silence: 1_500 });
      await opened([page]);
      await sleep(2_500);
      assert.deepEqual((await told(page)).errors, [], "heartbeats are a sign of life");
      proxy.freeze();
      await publishNumbers(broker, 1, 5);
      await eventually(numbers(1, 5), () => events(page));
    } finally {
      await proxy.close();
    }
  }),
);

test("the broker starts anew", LIMIT, () =>
  scene({}, async (broker, context) => {
    const pages = await threeTabs(context, broker.url);
    await publishNumbers(broker, 1, 5);
    await eventually(same(pages, numbers(1, 5)), all(pages, events));
    const port = Number(new URL(broker.url).port);
    await broker.stop({ keep: true });
    const again = await startBroker({ port, home: broker.home });
    try {
      await eventually(same(pages, 1), all(pages, async (page) => (await told(page)).gaps.length));
      await publishNumbers(again, 6, 10);
      await eventually(same(pages, numbers(1, 10)), all(pages, events));
    } finally {
      await again.stop({ keep: true });
    }
  }),
);

test("records: every tab has the newest state, whenever it comes, and what is new", LIMIT, () =>
  scene({}, async (broker, context) => {
    const insert = (event, data) =>
      fetch(`${broker.url}/insert`, { method: "POST", body: JSON.stringify({ event, data }), headers: { "Content-Type": "application/json" } });
    const empty = await openTab(context, broker.url, { records: true });
    const alsoEmpty = await openTab(context, broker.url, { records: true });
    await opened([empty, alsoEmpty]);
    assert.equal((await stats(broker)).record_subscribers, 1);
    await insert("a", 1);
    await insert("b", 1);
    await insert("a", 2);
    await eventually([["1", "1", "2"], ["1", "1", "2"]], all([empty, alsoEmpty], events));
    const late = await openTab(context, broker.url, { records: true });
    await eventually(["1", "2"], () => events(late));
    const onlyB = await openTab(context, broker.url, { records: ["b"] });
    await eventually(["1"], () => events(onlyB));
    await eventually(2, async () => (await stats(broker)).record_subscribers);
    await insert("b", 3);
    await eventually(["1", "2", "3"], () => events(late));
    await eventually(["1", "3"], () => events(onlyB));
  }),
);

test("a page that goes and comes back from the back-forward cache goes on where it was", LIMIT, () =>
  scene({}, async (broker, context) => {
    const [leader, ...others] = await leaderFirst(await threeTabs(context, broker.url));
    await publishNumbers(broker, 1, 3);
    await eventually(numbers(1, 3), () => events(leader));
    // What the browser says on these occasions; headless Chromium keeps no page.
    await leader.evaluate(() => dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
    await publishNumbers(broker, 4, 6);
    await eventually(same(others, numbers(1, 6)), all(others, events));
    assert.deepEqual(await events(leader), numbers(1, 3));
    await leader.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
    await eventually(numbers(1, 6), () => events(leader));
    await eventually(1, async () => (await stats(broker)).subscribers);
  }),
);

test("without locks each tab has a connection; close() and a signal end it", LIMIT, () =>
  scene({}, async (broker, context) => {
    await context.addInitScript(() => Object.defineProperty(navigator, "locks", { value: undefined }));
    const pages = await threeTabs(context, broker.url);
    assert.deepEqual(await Promise.all(pages.map(role)), same(pages, "alone"));
    await publishNumbers(broker, 1, 3);
    await eventually(same(pages, numbers(1, 3)), all(pages, events));
    assert.equal((await stats(broker)).subscribers, 3);
    await pages[0].evaluate(() => globalThis.stream.close());
    assert.equal(await state(pages[0]), "closed");
    await pages[1].evaluate(async (url) => {
      const { connect } = await import("/esker.js");
      globalThis.stream.close();
      const control = new AbortController();
      globalThis.stream = connect(url, { topics: ["greeting"], signal: control.signal });
      control.abort();
    }, broker.url);
    assert.equal(await state(pages[1]), "closed");
    await eventually(1, async () => (await stats(broker)).subscribers);
  }),
);

const SECRET = "a secret of thirty-two bytes or more";
const ENVIRONMENT = { ESKER_PUBLISHER_SECRET: SECRET, ESKER_SUBSCRIBER_SECRET: `${SECRET} for subscribers` };

function mint(secret, topics, seconds) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256" })}.${part({ topics, exp: Math.floor(Date.now() / 1000) + seconds })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const subscriberToken = (seconds) => mint(ENVIRONMENT.ESKER_SUBSCRIBER_SECRET, [TOPIC], seconds);

async function publishWithToken(broker, number) {
  const headers = { Authorization: `Bearer ${mint(SECRET, ["*"], 60)}`, "Content-Type": "text/event-stream" };
  const response = await fetch(`${broker.url}/publish/${TOPIC}`, { method: "POST", headers, body: `data: ${number}` });
  assert.equal(response.status, 200);
}

for (const tokenIn of ["header", "query"]) {
  test(`tokens expire and are replaced, in the ${tokenIn}`, LIMIT, () =>
    scene({ tokens: true, environment: ENVIRONMENT }, async (broker, context) => {
      await context.exposeFunction("freshToken", async () => subscriberToken(2));
      const pages = await threeTabs(context, broker.url, { asksForToken: true, tokenIn });
      for (let number = 1; number <= 60; number++) {
        await publishWithToken(broker, number);
        await sleep(100);
      }
      await eventually(same(pages, numbers(1, 60)), all(pages, events));
      const reports = await Promise.all(pages.map(told));
      const total = (pick) => reports.map(pick).reduce((sum, it) => sum + it);
      assert.ok(total(({ expired }) => expired) >= 2);
      assert.ok(total(({ reasons }) => reasons.filter((it) => it === "expired").length) >= 2);
    }),
  );
}

test("a refused token is asked for again, one of another topic is the end", LIMIT, () =>
  scene({ tokens: true, environment: ENVIRONMENT }, async (broker, context) => {
    const tokens = [subscriberToken(-5), subscriberToken(-5), subscriberToken(60)];
    await context.exposeFunction("freshToken", async () => tokens.shift());
    const page = await openTab(context, broker.url, { asksForToken: true });
    await opened([page]);
    const { reasons, errors } = await told(page);
    assert.deepEqual(reasons, ["start", "refused", "refused"]);
    assert.deepEqual(errors.map(({ status, isFinal }) => [status, isFinal]), [[401, false], [401, false]]);
    assert.match(errors[0].detail, /expired/);

    const foreign = mint(ENVIRONMENT.ESKER_SUBSCRIBER_SECRET, ["elsewhere"], 60);
    const refused = await openTab(context, broker.url, { token: foreign, shared: "another person" });
    await eventually("closed", () => state(refused));
    assert.deepEqual((await told(refused)).errors.map(({ status, isFinal }) => [status, isFinal]), [[403, true]]);
    const bad = await openTab(context, broker.url, { token: subscriberToken(-5), shared: "somebody" });
    await eventually("closed", () => state(bad));
    assert.deepEqual((await told(bad)).errors.map(({ status, isFinal }) => [status, isFinal]), [[401, true]]);
  }),
);

test("a cookie is a token, too", LIMIT, () =>
  scene({ tokens: true, environment: ENVIRONMENT, arguments: ["--origin", site.url] }, async (broker, context) => {
    await context.addCookies([{ name: "esker_token", value: subscriberToken(60), url: broker.url }]);
    const page = await openTab(context, broker.url, { credentials: "include" });
    await opened([page]);
    await publishWithToken(broker, 1);
    await eventually(["1"], () => events(page));
  }),
);

test("the types are those of a program that uses it well, and none that does not", LIMIT, async () => {
  const usage = path.join(folder, "usage.ts");
  await writeFile(usage, USAGE);
  const compiler = path.join(import.meta.dirname, "node_modules/typescript/bin/tsc");
  const flags = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
  await promisify(execFile)(process.execPath, [compiler, ...flags, usage]).catch(({ stdout }) => assert.fail(stdout));
});

const USAGE = `
import { connect, Stream, StreamError, type StreamEvent, type State } from "./esker.js";
const stream: Stream = connect(new URL("https://events.example.com"), {
  topics: ["orders1234", "prices1234"],
  token: async (reason) => (await fetch("/token?" + reason)).text(),
  signal: new AbortController().signal,
  onState: (state: State) => console.log(state),
  onGap: ({ after, oldest }) => console.log(after, oldest ?? "nothing"),
  onExpired: ({ reason }) => console.log(reason),
  onError: (error) => console.log(error instanceof StreamError, error.status, error.detail, error.isFinal),
});
const off: () => void = stream.on("paid", (event: StreamEvent) => console.log(event.name, event.data, event.id));
off();
stream.add("news12345");
stream.remove("orders1234", "prices1234");
const position: string | undefined = stream.position;
stream.close();
connect("/", { records: ["form.name"], position, shared: "user 17" });
connect("/", { records: true, shared: false, credentials: "include", token: "a", tokenIn: "query" });
// @ts-expect-error one of both
connect("/", { topics: ["news12345"], records: true });
// @ts-expect-error one of both
connect("/", {});
// @ts-expect-error there is no such event
connect("/", { topics: ["news12345"], onMessage: () => {} });
`;

/** A TCP proxy whose connections can be cut, kept from coming, and frozen, so that no byte passes. */
async function startProxy(url) {
  const { port } = new URL(url);
  const sockets = new Set();
  let isBlocked = false;
  const server = net.createServer((near) => {
    if (isBlocked) return near.destroy();
    const far = net.connect(Number(port), "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.pipe(other);
      one.on("error", () => {});
      one.on("close", () => (other.destroy(), sockets.delete(one)));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => sockets.forEach((socket) => socket.destroy());
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut,
    freeze: () => sockets.forEach((socket) => socket.unpipe()),
    block: () => ((isBlocked = true), cut()),
    unblock: () => (isBlocked = false),
    close: () => (cut(), new Promise((resolve) => server.close(resolve))),
  };
}
