// The console's layout and explanations: nothing moves when a stream begins, columns have headings, outages are marked, charts
// are useful from the first seconds, and a broker without tokens doesn't show token fields.

import assert from "node:assert/strict";

import { PHONE, SECRETS, open, press, rows, says, subscribe, tab, withBroker } from "./console.mjs";
import { publish, shoot } from "./support.mjs";

/** Returns the positions of the parts of the page that must not move: left, top, width. */
const places = (page) =>
  page.evaluate(() =>
    ["header", "#figures", "#listen", "#listen .primary", ".bar", "#list", "#side", "#publish .primary"].map((selector) => {
      const { left, top, width } = document.querySelector(selector).getBoundingClientRect();
      return [selector, left, top, width];
    }),
  );

for (const viewport of [{ width: 1280, height: 800 }, { width: 1101, height: 720 }, { width: 900, height: 800 }, { ...PHONE, width: 390 }]) {
  withBroker(`nothing moves when a stream begins, ends and resumes, at ${viewport.width} px`, { arguments: ["--retry", "100ms"] }, async (broker) => {
    const { page, faults } = await open(`${broker.url}/`, { viewport });
    await says(page, "#about", "up");
    const before = await places(page);
    await subscribe(page);
    assert.deepEqual(await places(page), before, "subscribed");
    await press(page, "Disconnect");
    await says(page, "#rows .name", "resumed");
    await says(page, "#position", "last id");
    const isBelow = ([selector]) => viewport.width <= 1100 && ["#figures", "#side", "#publish .primary"].includes(selector);
    // In a single-column layout, rows push down what is below them.
    const fixed = (list) => list.filter((place) => !isBelow(place));
    assert.deepEqual(fixed(await places(page)), fixed(before), "resumed");
    await press(page, "Stop");
    assert.deepEqual(fixed(await places(page)), fixed(before), "stopped");
    assert.deepEqual(faults, []);
    await shoot(page, `console-live-${viewport.width}`);
  });
}

/** Returns the left edges of a row's visible cells. */
const edges = (page, selector) =>
  page.locator(selector).first().evaluate((row) => [...row.children].filter((cell) => cell.checkVisibility()).map((cell) => Math.round(cell.getBoundingClientRect().left)));

withBroker("columns have headings above them", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { viewport: { width: 1280, height: 800 } });
  assert.equal(await page.locator("#heads").isVisible(), false);
  await subscribe(page);
  await press(page, "Publish");
  await says(page, "#rows .data", "hello");
  const seen = page.locator("#heads > span:visible");
  assert.deepEqual(await seen.allTextContents(), ["Time", "Topic", "Event", "Data", "Id"]);
  assert.deepEqual(await edges(page, "#heads"), await edges(page, "#rows summary"));
  await page.locator("#topics").fill("greeting, weather1");
  await subscribe(page);
  await publish(broker, "weather1", "data: sunny");
  await says(page, "#rows .data", "sunny");
  assert.deepEqual(await edges(page, "#heads"), await edges(page, "#rows summary"), "rows without a topic keep the column");
  await press(page, "Clear");
  assert.equal(await page.locator("#heads").isVisible(), false);
  await publish(broker, "weather1", "data: rainy");
  await says(page, "#rows .data", "rainy");
  assert.deepEqual(await seen.allTextContents(), ["Time", "Event", "Data", "Id"]);
  assert.deepEqual(await edges(page, "#heads"), await edges(page, "#rows summary"));
  assert.deepEqual(faults, []);
});

withBroker("the end of an outage shows its duration and what was missed", { arguments: ["--retry", "2s"] }, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await subscribe(page);
  const { id } = await publish(broker, "greeting", "data: before");
  await says(page, "#rows .data", "before");
  await press(page, "Disconnect");
  await says(page, "#rows .name", "waiting");
  for (const number of [1, 2, 3]) await publish(broker, "greeting", `data: missed ${number}`);
  await press(page, "Reconnect now");
  await says(page, "#rows .data", "missed 3");
  const text = await says(page, "#rows > li:nth-child(4) .data", "followed immediately");
  assert.match(text, new RegExp(`^Live again after [\\d.]+ (ms|s), resumed after ${id}; 3 events followed immediately\\.$`));
  assert.deepEqual((await rows(page).locator(".name").allTextContents()).slice(3), ["resumed", "waiting", "message"]);
  await press(page, "Disconnect");
  await says(page, "#rows .name", "waiting");
  await press(page, "Reconnect now");
  await says(page, "#rows .name", "resumed");
  assert.match(await rows(page).first().locator(".data").textContent(), /^Live again after [^;]*\.$/);
  assert.deepEqual(faults, []);
});

withBroker("a proxy's response is retried after its Retry-After", {}, async (broker) => {
  const expected = ["404", "502", "503"];
  const { page, faults } = await open(`${broker.url}/`, { expected });
  const responses = [404, 502, 403, 200].map((status) => ({ status, contentType: "text/html", body: "<h1>A proxy</h1>" }));
  await page.route("**/subscribe/**", (route) => (responses.length ? route.fulfill(responses.shift()) : route.continue()));
  await press(page, "Subscribe");
  for (const words of [/Waiting. 404/, /Waiting. 502/, /Waiting. 403/, /Waiting. This is not an event stream: the type is text.html/]) {
    await says(page, "#state", words);
    await press(page, "Reconnect now");
  }
  await says(page, "#state", "Live");
  await press(page, "Stop");
  const body = '{"title":"Service Unavailable","status":503,"detail":"not now"}';
  responses.push({ status: 503, contentType: "application/problem+json", headers: { "Retry-After": "40" }, body });
  await press(page, "Subscribe");
  await says(page, "#state", "Waiting. not now");
  await says(page, "#countdown", /^(40|39|38) s$/);
  assert.deepEqual(faults.filter((fault) => !fault.includes("403")), []);
});

withBroker("charts are useful from the first second, and exclude the page's own requests", {}, async (broker) => {
  const { page, faults } = await open("about:blank");
  let asked = 0;
  let respond = () => {};
  await page.route("**/stats", async (route) => {
    asked += 1;
    if (asked === 2) await new Promise((resolve) => (respond = resolve));
    await route.continue();
  });
  await page.goto(`${broker.url}/`);
  await says(page, "#about", "up");
  await says(page, "#chart-events .top", "collecting …");
  await says(page, "#chart-latency .top", "nothing delivered yet");
  await says(page, "#chart-subscribers .since", /^10 s ago$/);
  respond();
  await says(page, "#chart-events .now", /^0$/);
  const label = page.locator("#chart-bytes svg");
  await page.waitForFunction(() => poll.samples.length >= 5);
  assert.match(await label.getAttribute("aria-label"), /^Bytes\/s: now 0 B, at most 0 B in the last \d+ s$/, "which cause nearly 2 KiB a second");
  const first = (id) => page.locator(`#chart-${id} .line`).first().getAttribute("d");
  const x = Number(/^M([\d.]+) /.exec(await first("subscribers"))[1]);
  assert.ok(x <= 240 * (5 / 9) + 1, `five seconds fill half of the chart, which begins at ${x}`);
  assert.deepEqual(faults.filter((fault) => !fault.startsWith("asked")), []);
});

withBroker("no token fields are shown for a broker without tokens", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await says(page, "#about", "up");
  assert.equal(await page.locator("#token-state").isVisible(), false);
  await tab(page, "Tokens");
  assert.equal(await page.locator("#tokens-hint").textContent(), "This broker does not require tokens.");
  assert.deepEqual(await page.locator("#expiry-publisher, #expiry-subscriber").allTextContents(), ["not needed", "not needed"]);
  assert.deepEqual(faults, []);
});

withBroker("token fields are shown once a broker has refused a request", { tokens: true, environment: SECRETS }, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { expected: ["401"] });
  await says(page, "#token-state", "No token");
  assert.equal(await page.locator("#token-state").isVisible(), true);
  await page.locator("#token-state").click();
  assert.deepEqual(await page.locator("#expiry-publisher, #expiry-subscriber").allTextContents(), ["none", "none"]);
  assert.deepEqual(faults, []);
});
