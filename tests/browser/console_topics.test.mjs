// The console's list of topics: rates, order, filter, paging, and subscribing with a click or by keyboard.

import assert from "node:assert/strict";

import { PHONE, SECRETS, inSeconds, open, says, tab, token, withBroker } from "./console.mjs";
import { publish, shoot } from "./support.mjs";

/** Returns the cells of all rows. */
const table = (page) => page.locator("#topic-rows tr").evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));

withBroker("topics are listed with rates, the busiest first, and a click subscribes", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await tab(page, "Topics");
  await says(page, "#topics-count", "No topic has a subscriber or a retained event.");
  assert.equal(await page.locator("#topic-table").isVisible(), false);
  await publish(broker, "quiettopic", "data: a\n\ndata: b");
  await publish(broker, "busytopic1", "data: c");
  await says(page, "#topics-count", "2 topics.");
  assert.deepEqual(await table(page), [["quiettopic", "–", "0", "2"], ["busytopic1", "–", "0", "1"]]);
  await publish(broker, "busytopic1", "data: x\n\n".repeat(200));
  await says(page, "#topic-rows tr:first-child", "busytopic1");
  const [[, rate, , retained], second] = await table(page);
  // The list is read every two seconds, or a little less often on a busy machine.
  assert.ok(Number(rate) > 5 && Number(rate) <= 110, `${rate} events per second`);
  assert.equal(retained, "201");
  assert.deepEqual(second, ["quiettopic", "0", "0", "2"]);
  await page.getByRole("button", { name: "Subscribe to quiettopic" }).click();
  await says(page, "#state", "Live");
  assert.equal(await page.locator("#topics").inputValue(), "quiettopic");
  await says(page, "#request", "GET /subscribe/quiettopic?prime");
  await says(page, "#topic-rows tr:has-text('quiettopic') td:nth-child(3)", "1");
  await publish(broker, "quiettopic", "data: seen");
  await says(page, "#rows .data", "seen");
  assert.deepEqual(faults, []);
  await shoot(page, "console-topics");
});

withBroker("the list is read only while it is visible", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  const asked = [];
  page.on("request", (request) => request.url().includes("/topics") && asked.push(request.url()));
  await page.waitForFunction(() => poll.samples.length >= 3);
  assert.deepEqual(asked, []);
  await tab(page, "Topics");
  await says(page, "#topics-count", "No topic");
  await tab(page, "Publish");
  const count = asked.length;
  const samples = await page.evaluate(() => poll.samples.length);
  await page.waitForFunction((before) => poll.samples.length >= before + 4, samples);
  assert.equal(asked.length, count);
  assert.deepEqual(faults, []);
});

withBroker("the filter finds topics, and rows are limited", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  const name = (number) => `topic${String(number).padStart(4, "0")}`;
  for (let number = 0; number < 150; number += 1) await publish(broker, name(number), "data: x");
  await tab(page, "Topics");
  await says(page, "#topics-count", "The 100 busiest of 150 topics.");
  assert.equal(await page.locator("#topic-rows tr").count(), 100);
  await page.locator("#topics-filter").fill("C014 ");
  await says(page, "#topics-count", "10 matching topics.");
  assert.deepEqual((await table(page)).map(([topic]) => topic), Array.from({ length: 10 }, (_, at) => name(140 + at)));
  await page.locator("#topics-filter").fill("nothing");
  await says(page, "#topics-count", "0 matching topics.");
  assert.equal(await page.locator("#topic-table").isVisible(), false);
  assert.deepEqual(faults, []);
});

withBroker("pages are followed up to a bound", {}, async (broker) => {
  const { page, faults } = await open("about:blank");
  let pages = 0;
  await page.route("**/topics?*", async (route) => {
    const { searchParams } = new URL(route.request().url());
    const after = Number(searchParams.get("after") ?? -1);
    assert.equal(searchParams.get("limit"), "1000");
    pages += 1;
    const topic = { topic: `page${String(after + 1).padStart(6, "0")}`, subscribers: 0, events: 1, bytes: 178, published: 1, oldest: "1", newest: "1" };
    const Link = `</topics?after=${after + 1}&limit=1000>; rel="next"`;
    await route.fulfill({ contentType: "application/json", headers: { Link }, body: JSON.stringify({ topics: [topic] }) });
  });
  await page.goto(`${broker.url}/#tab=topics`);
  await says(page, "#topics-count", "10 topics; there are more topics, which are not listed.");
  assert.equal(pages % 10, 0);
  assert.deepEqual(faults.filter((fault) => !fault.startsWith("asked")), []);
});

withBroker("rows can be chosen by keyboard and don't move while one has the focus", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { viewport: PHONE });
  await publish(broker, "firsttopic", "data: a\n\ndata: b");
  await publish(broker, "othertopic", "data: c");
  await tab(page, "Topics");
  await says(page, "#topic-rows tr:first-child", "firsttopic");
  await page.locator("#topics-filter").focus();
  await page.keyboard.press("Tab");
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  assert.equal(await focused(), "firsttopic");
  await publish(broker, "othertopic", "data: x\n\n".repeat(100));
  await says(page, "#topic-rows tr:nth-child(2) td:last-child", "101");
  assert.equal(await focused(), "firsttopic");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "othertopic");
  await page.keyboard.press("Enter");
  await says(page, "#state", "Live");
  assert.equal(await page.locator("#topics").inputValue(), "othertopic");
  const top = await page.locator("#stream").evaluate((element) => element.getBoundingClientRect().top);
  assert.ok(top >= -1 && top < PHONE.height, `the stream is in view, at ${top}`);
  await page.locator("#topics-filter").focus();
  await publish(broker, "othertopic", "data: x\n\n".repeat(100));
  await says(page, "#topic-rows tr:first-child", "othertopic");
  assert.deepEqual(faults, []);
});

withBroker("why there is no list is shown", { tokens: true, environment: SECRETS }, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#tab=topics", expected: ["401", "403"] });
  assert.equal(await says(page, "#topics-result", "required"), "A publisher token is required. Tokens…");
  const give = (claims) => page.locator("#token-publisher").fill(token(SECRETS.ESKER_PUBLISHER_SECRET, { ...claims, exp: inSeconds(600) }));
  await page.locator("#topics-result button").click();
  await give({ sub: "topicone1" });
  await tab(page, "Topics");
  await says(page, "#topics-result", /^403 the token is valid, but its `sub` and its list of topics don't allow stats/);
  assert.equal(await page.locator("#topics-count").textContent(), "");
  await tab(page, "Tokens");
  await give({ sub: "stats" });
  await tab(page, "Topics");
  await says(page, "#topics-count", "No topic has");
  assert.equal(await page.locator("#topics-result").textContent(), "");
  assert.deepEqual(faults, []);
});

withBroker("a list that moved, is invalid or can't be read for now", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { expected: ["404", "502"] });
  const problem = { status: 404, contentType: "application/problem+json", body: '{"detail":"nothing"}' };
  const responses = [problem, { status: 502, contentType: "text/html", body: "" }, { contentType: "application/json", body: "{" }];
  await page.route("**/topics?*", (route) => (responses.length ? route.fulfill(responses.shift()) : route.continue()));
  await tab(page, "Topics");
  await says(page, "#topics-result", "There is no /topics at this address: a broker started with --admin serves the list there.");
  await tab(page, "Publish");
  await tab(page, "Topics");
  await says(page, "#topics-result", /502.* Trying again in 4 s\.$/);
  await says(page, "#topics-result", "The response of /topics is not valid.");
  await tab(page, "Publish");
  await tab(page, "Topics");
  await says(page, "#topics-count", "No topic has");
  assert.equal(await page.locator("#topics-result").textContent(), "");
  assert.deepEqual(faults, []);
});
