// The console, used as a person would: streams and publishing, also behind a proxy, and without requests to other hosts.

import assert from "node:assert/strict";
import { createServer, request as forward } from "node:http";

import { closePages, field, insert, open, press, rows, says, subscribe, tab, withBroker } from "./console.mjs";
import { publish } from "./support.mjs";

withBroker("pressing two buttons shows an event", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await says(page, "#advice", "Press Subscribe");
  await subscribe(page);
  await press(page, "Publish");
  const shown = await says(page, "#publish .result", "reached 1 subscriber");
  const id = /id (\d{16})/.exec(shown)[1];
  assert.equal(await rows(page).first().locator(".id").textContent(), id);
  assert.deepEqual(await rows(page).first().locator(".name, .data, .source").allTextContents(), ["greeting", "greeting", "hello"]);
  await says(page, "#position", id);
  await tab(page, "Raw");
  const raw = await says(page, "#raw", `data: hello\nid: ${id}\n`);
  assert.match(raw, /^▸ GET \/subscribe\/greeting\?prime\n:\nretry: \d+\nid: \d+\n\nevent: greeting\n/);
  await says(page, "#chart-subscribers .now", "1");
  await says(page, "#about", "up");
  assert.match(page.url(), /#topics=greeting$/);
  assert.deepEqual(faults, []);
});

withBroker("content types, names, ids and the broker's errors", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=greeting", expected: ["400"] });
  await says(page, "#state", "Live");
  await page.getByText("JSON", { exact: true }).first().click();
  await field(page, "publish", "event").fill("a name & more");
  await field(page, "publish", "id").fill("my-ünique id");
  await field(page, "publish", "data").fill('{"big": 12345678901234567890, "b": [], "a": {"1": "x"}}');
  await press(page, "Publish");
  await says(page, "#publish .result", "1 event");
  await press(page, "Publish");
  await says(page, "#publish .result", "duplicate");
  assert.deepEqual(await rows(page).first().locator(".name, .id").allTextContents(), ["a name & more", "my-ünique id"]);
  await rows(page).first().locator("summary").click();
  await says(page, "#rows .facts", " · id my-ünique id · ");
  const pretty = '{\n  "big": 12345678901234567890,\n  "b": [],\n  "a": {\n    "1": "x"\n  }\n}';
  assert.equal(await rows(page).first().locator("pre").textContent(), pretty);

  await field(page, "publish", "data").fill("{no json");
  await press(page, "Publish");
  assert.equal(await field(page, "publish", "data").getAttribute("aria-invalid"), "true");
  await page.getByText("SSE text", { exact: true }).click();
  assert.equal(await field(page, "publish", "id").isDisabled(), true);
  await field(page, "publish", "data").fill("data: it's\n\nevent: second\ndata: <b>\ndata: $x");
  await press(page, "Publish");
  await says(page, "#publish .result", "2 events");
  await field(page, "publish", "data").fill("event: nothing\n\n");
  await press(page, "Publish");
  await says(page, "#publish .result.bad", "400");

  await field(page, "publish", "topic").fill("short");
  await press(page, "Publish");
  assert.equal(await field(page, "publish", "topic").getAttribute("aria-invalid"), "true");
  assert.deepEqual(faults, []);
});

withBroker("links open parts of the page", {}, async (broker) => {
  await publish(broker, "weather1", "data: earlier");
  await insert(broker, "user", 1);
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=weather1,greeting&after=0&audit=user" });
  await says(page, "#rows .data", "earlier");
  await says(page, "#audit-result", "1 version of user");
  assert.equal(await field(page, "publish", "topic").inputValue(), "weather1");
  await page.evaluate(() => (location.hash = "#events&tab=tokens"));
  await says(page, "#request", "GET /events");
  await says(page, "#rows .source", "records");
  assert.equal(await page.locator("#tokens-panel").isVisible(), true);
  await page.reload();
  await says(page, "#rows .source", "records");
  assert.deepEqual(faults, []);
});

withBroker("several topics, the filter, pause and clear", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await page.locator("#topics").fill("weather1, greeting news0001");
  await subscribe(page);
  for (const topic of ["weather1", "greeting", "news0001"]) await publish(broker, topic, `event: ${topic}\ndata: of ${topic}`);
  await says(page, "#counts", "3 events");
  assert.deepEqual(await rows(page).locator(".name").allTextContents(), ["news0001", "greeting", "weather1"]);
  assert.equal(await rows(page).locator(".source").count(), 0, "which of them it came from is not known");
  await page.locator("#filter").fill("OF WEATHER");
  assert.equal(await rows(page).count(), 1);
  await page.locator("#filter").fill("");
  assert.equal(await rows(page).count(), 3);
  await press(page, "Pause");
  await publish(broker, "greeting", "data: later");
  await says(page, "#counts", "1 waiting");
  assert.equal(await rows(page).count(), 3);
  await press(page, "Resume");
  await says(page, "#rows .data", "later");
  await press(page, "Clear");
  await says(page, "#counts", "0 events");
  await page.locator("#topics").fill("greeting, tooshrt");
  await press(page, "Subscribe");
  assert.equal(await page.locator("#topics").getAttribute("aria-invalid"), "true");
  assert.deepEqual(faults, []);
});

withBroker("what publishers send is shown as text, even if it looks like markup", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=greeting" });
  await says(page, "#state", "Live");
  const evil = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>';
  await publish(broker, "greeting", `event: ${evil}\ndata: ${evil}\nid: ${evil}`);
  await publish(broker, "greeting", `event: gap\ndata: {"after":"${evil.replaceAll('"', "'")}"}`);
  await says(page, "#counts", "2 events");
  await page.locator("#expand").check();
  await tab(page, "Insert");
  await field(page, "insert", "event").fill(evil);
  await field(page, "insert", "data").fill(JSON.stringify({ [evil]: evil }));
  await press(page, "Insert");
  await press(page, "show versions");
  await says(page, "#audit-result", `1 version of ${evil}`);
  assert.equal(await page.evaluate(() => window.hurt ?? document.querySelectorAll("img, #rows script").length), 0);
  assert.equal(await page.locator("#rows > li.gap").count(), 0, "a publisher's gap is an event");
  assert.deepEqual(faults, []);
});

withBroker("bidirectional control characters are shown in names and confined to their data", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=greeting" });
  await says(page, "#state", "Live");
  await publish(broker, "greeting", "event: pay\u202etxt\nid: a\u2066b\ndata: one\u202etwo\ndata: שלום");
  await says(page, "#rows .name", "pay\\u{202e}txt");
  await says(page, "#rows .id", "a\\u{2066}b");
  await says(page, "#position", "last id a\\u{2066}b");
  await rows(page).first().locator("summary").click();
  await says(page, "#rows .facts", " · pay\\u{202e}txt · greeting · id a\\u{2066}b · ");
  assert.equal(await page.locator("#rows pre").textContent(), "one\u202etwo\nשלום", "which is shown as it is");
  const bidi = (selector) => page.locator(selector).first().evaluate((place) => getComputedStyle(place).unicodeBidi);
  assert.deepEqual(await Promise.all(["#rows .data", "#rows .facts bdi", "#rows pre"].map(bidi)), ["isolate", "isolate", "plaintext"]);
  await tab(page, "Insert");
  await field(page, "insert", "event").fill("user\u202e");
  await press(page, "Insert");
  await says(page, "#insert .result", "stored as user\\u{202e}_v_");
  await press(page, "show versions");
  await says(page, "#audit-result", "1 version of user\\u{202e}");
  assert.deepEqual(faults, []);
});

/** Starts a proxy that serves the broker below a prefix and nothing else; `strays` are requests outside the prefix. */
async function startProxy(broker, prefix) {
  const strays = [];
  const { port } = new URL(broker.url);
  const server = createServer((request, response) => {
    const { pathname, search } = new URL(request.url, "http://localhost");
    if (pathname !== prefix && !pathname.startsWith(`${prefix}/`)) {
      strays.push(request.url);
      response.writeHead(404).end();
      return;
    }
    const path = (pathname.slice(prefix.length) || "/") + search;
    const onward = forward({ port, path, method: request.method, headers: request.headers, agent: false }, (upstream) => {
      response.writeHead(upstream.statusCode, upstream.headers);
      upstream.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}${prefix}`, strays, close };
}

withBroker("the console works behind a proxy's prefix, with and without the trailing slash", {}, async (broker) => {
  const proxy = await startProxy(broker, "/tools/esker");
  try {
    for (const slash of ["", "/"]) {
      const { page, faults } = await open(proxy.url, { hash: `${slash}?from=bookmark#topics=greeting` });
      await says(page, "#state", "Live");
      await press(page, "Publish");
      await says(page, "#publish .result", "reached 1 subscriber");
      await says(page, "#rows .data", "hello");
      for (let version = 1; version <= 11; version += 1) await insert(broker, "a/b", version);
      await tab(page, "Audit");
      await field(page, "audit", "name").fill("a/b");
      await page.locator("#audit select[name=limit]").selectOption("10");
      await press(page, "Show");
      await says(page, "#audit-result", "10 versions of a/b; there");
      await press(page, "More");
      await says(page, "#audit-result", slash ? "20 versions" : "11 versions");
      await says(page, "#chart-subscribers .now", "1");
      assert.match(await page.locator("#request").getAttribute("data-command"), /\/tools\/esker\/subscribe\/greeting/);
      assert.deepEqual(faults, []);
      await closePages();
    }
    assert.deepEqual(proxy.strays, []);
  } finally {
    await closePages();
    await proxy.close();
  }
});
