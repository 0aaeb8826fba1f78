// The client module in a browser, with the tabs of one person: all tabs share one connection, and each gets every event once
// and in order, whichever tab closes, crashes, hangs or loses the network.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
  LIMIT, TOPIC, all, events, eventually, leaderFirst, numbers, openTab, opened, publishNumbers, role, same, scene,
  startProxy, state, stats, threeTabs, received,
} from "./client.support.mjs";
import { BROWSER, publish, startBroker } from "./support.mjs";

test("three tabs share one connection and get each event once", LIMIT, () =>
  scene({}, async (broker, context) => {
    const pages = await threeTabs(context, broker.url);
    await publishNumbers(broker, 1, 200);
    await eventually(same(pages, numbers(1, 200)), all(pages, events));
    assert.equal((await stats(broker)).subscribers, 1);
    assert.equal((await stats(broker)).events_delivered, 200);
  }),
);

test("when the leader closes during publishing, another tab takes over with nothing lost or duplicated", LIMIT, () =>
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

test("when the leader crashes, another tab takes over", { ...LIMIT, skip: BROWSER !== "chromium" && "only Chromium has a page that crashes" }, () =>
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

test("a leader that hangs is replaced, and gets what it missed when it resumes", LIMIT, () =>
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

test("a tab that opens later with its own position gets what it missed, and joins", LIMIT, () =>
  scene({}, async (broker, context) => {
    const early = await openTab(context, broker.url);
    await opened([early]);
    await publishNumbers(broker, 1, 20);
    await eventually(numbers(1, 20), () => events(early));
    const third = (await received(early)).ids[2];
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

test("publishers' own ids work as well, though they are not ordered", LIMIT, () =>
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

test("tabs receive only their own topics, and changing topics loses nothing", LIMIT, () =>
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
    assert.deepEqual((await received(page)).gaps, []);
  }),
);

test("every tab gets a gap", LIMIT, () =>
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
      const gaps = (await Promise.all(pages.map(received))).map(({ gaps }) => gaps);
      const { ids } = await received(pages[0]);
      assert.deepEqual(gaps, same(pages, [{ after: ids[2], oldest: ids[3] }]));
    } finally {
      await proxy.close();
    }
  }),
);

test("a network outage loses nothing", LIMIT, () =>
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

test("a silent connection is replaced", LIMIT, () =>
  scene({ arguments: ["--heartbeat", "300ms"] }, async (broker, context) => {
    const proxy = await startProxy(broker.url);
    try {
      const page = await openTab(context, proxy.url, { silence: 1_500 });
      await opened([page]);
      await sleep(2_500);
      assert.deepEqual((await received(page)).errors, [], "heartbeats are a sign of life");
      proxy.freeze();
      await publishNumbers(broker, 1, 5);
      await eventually(numbers(1, 5), () => events(page));
    } finally {
      await proxy.close();
    }
  }),
);

test("the broker restarts after a crash", LIMIT, () =>
  scene({}, async (broker, context) => {
    const pages = await threeTabs(context, broker.url);
    await publishNumbers(broker, 1, 5);
    await eventually(same(pages, numbers(1, 5)), all(pages, events));
    const port = Number(new URL(broker.url).port);
    await broker.stop({ keep: true, signal: "SIGKILL" });
    const again = await startBroker({ port, home: broker.home });
    try {
      await eventually(same(pages, 1), all(pages, async (page) => (await received(page)).gaps.length));
      await publishNumbers(again, 6, 10);
      await eventually(same(pages, numbers(1, 10)), all(pages, events));
    } finally {
      await again.stop({ keep: true });
    }
  }),
);

test("records: every tab gets the newest state, whenever it opens, and new records", LIMIT, () =>
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

test("no stored position means none, and an empty list of records means none", LIMIT, () =>
  scene({}, async (broker, context) => {
    await publishNumbers(broker, 1, 2);
    const pages = [];
    for (const position of [null, ""]) pages.push(await openTab(context, broker.url, { position, shared: false }));
    await opened(pages);
    await publishNumbers(broker, 3, 3);
    await eventually(same(pages, ["3"]), all(pages, events));
    assert.deepEqual(await Promise.all(pages.map(async (page) => (await received(page)).gaps)), [[], []]);
    const none = await openTab(context, broker.url, { records: [] });
    assert.equal(await state(none), "idle");
    assert.equal((await stats(broker)).subscribers, 2);
  }),
);

test("a page restored from the back-forward cache continues where it was", LIMIT, () =>
  scene({}, async (broker, context) => {
    const [leader, ...others] = await leaderFirst(await threeTabs(context, broker.url));
    await publishNumbers(broker, 1, 3);
    await eventually(numbers(1, 3), () => events(leader));
    // Simulates the browser's page events, because headless Chromium has no back-forward cache.
    await leader.evaluate(() => dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
    await publishNumbers(broker, 4, 6);
    await eventually(same(others, numbers(1, 6)), all(others, events));
    assert.deepEqual(await events(leader), numbers(1, 3));
    await leader.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
    await eventually(numbers(1, 6), () => events(leader));
    await eventually(1, async () => (await stats(broker)).subscribers);
  }),
);

test("without locks each tab has its own connection; close() and a signal end it", LIMIT, () =>
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
