// The console's records: inserting, streaming, and browsing their history page by page.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { field, insert, open, press, says, subscribe, tab, withBroker } from "./console.mjs";

withBroker("records, their stream and their history page by page", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await page.getByText("Records", { exact: true }).click();
  await field(page, "listen", "names").fill("user");
  await subscribe(page);
  assert.match(page.url(), /#events=user$/);
  await tab(page, "Insert");
  await field(page, "insert", "data").fill("{");
  await press(page, "Insert");
  assert.equal(await field(page, "insert", "data").getAttribute("aria-invalid"), "true");
  await field(page, "insert", "data").fill('{ "visits": 12345678901234567890, "b": 1, "a": 2 }');
  await press(page, "Insert");
  await says(page, "#insert .result", "stored as user_v_");
  await says(page, "#rows .data", '{"visits":12345678901234567890,"b":1,"a":2}');
  await insert(broker, "other", 1);
  for (let visits = 2; visits <= 25; visits += 1) await insert(broker, "user", { visits });
  await says(page, "#counts", "25 events");

  await press(page, "show versions");
  await says(page, "#audit-result", "25 versions of user");
  await page.locator("#audit select[name=limit]").selectOption("10");
  await press(page, "Show");
  await says(page, "#audit-result", "10 versions of user; there are more");
  await says(page, "#versions pre", '"visits": 12345678901234567890,');
  await press(page, "More");
  await says(page, "#audit-result", "20 versions");
  await press(page, "More");
  await says(page, "#audit-result", /^25 versions of user$/);
  assert.equal(await page.locator("#more").isVisible(), false);
  assert.match(await page.locator("#versions li").nth(1).textContent(), /later.*changed visits −b −a/s);
  await insert(broker, "same", 1);
  await insert(broker, "same", 1);
  await field(page, "audit", "name").fill("same");
  await press(page, "Show");
  await says(page, "#audit-result", "2 versions of same");
  assert.deepEqual(await page.locator("#versions .changed").allTextContents(), ["unchanged"]);
  await field(page, "audit", "name").fill("user");
  await page.locator("#audit select[name=order]").selectOption("newest");
  await says(page, "#versions pre", '"visits": 25');
  await field(page, "audit", "name").fill("never/inserted é");
  await press(page, "Show");
  await says(page, "#audit-result", "No record is named");
  assert.deepEqual(faults, []);
});

withBroker("an erased record disappears from the list", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  const secret = { name: "user", data: '"secret"' };
  const events = [secret, { name: "other", data: '"kept"' }, secret, { name: "erased", data: '{"event":"user"}' }];
  const text = ({ name, data }, at) => `event: ${name}\ndata: ${data}\nid: ${at + 1}\n\n`;
  const body = `:\nretry: 60000\n${events.map(text).join("")}`;
  await page.route("**/events", (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await page.getByText("Records", { exact: true }).click();
  await press(page, "Subscribe");
  await says(page, "#rows .erased .data", "All versions of user were erased.");
  assert.deepEqual(await page.locator("#rows details .data").allTextContents(), ['"kept"']);
  assert.deepEqual(faults, []);
});

withBroker("late responses are not mixed with others", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  for (let number = 1; number <= 12; number += 1) await insert(broker, "slow", number);
  await insert(broker, "quick", 0);
  await page.route("**/audit\\?**", async (route) => {
    await sleep(route.request().url().includes("quick") ? 600 : 300);
    await route.continue();
  });
  await tab(page, "Audit");
  for (const name of ["slow", "quick"]) {
    await field(page, "audit", "name").fill(name);
    await press(page, "Show");
  }
  assert.equal(await says(page, "#audit-result", /version/), "1 version of quick");
  assert.deepEqual(await page.locator("#versions pre").allTextContents(), ["0"]);
  await field(page, "audit", "name").fill("slow");
  await page.locator("#audit select[name=limit]").selectOption("10");
  await press(page, "Show");
  await says(page, "#audit-result", "10 versions of slow; there are more");
  await page.locator("#more").dblclick();
  assert.equal(await says(page, "#audit-result", /^1\d versions of slow$/), "12 versions of slow");
  assert.deepEqual(faults, []);
});
