// The console's messages about responses: what it says when none arrives, and when the last one is outdated.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { SECRETS, field, form, open, press, rows, says, subscribe, tab, withBroker } from "./console.mjs";

const ADVICE = "six connections per host; close other tabs";

withBroker("a missing response is reported with advice", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await says(page, "#about", "up");
  for (const path of ["stats", "publish/*", "insert", "audit\\?*", "subscribe/*"]) await page.route(`**/${path}`, () => {});
  await press(page, "Subscribe");
  await press(page, "Publish");
  assert.equal(await form(page, "publish").locator(".primary").isDisabled(), true);
  await tab(page, "Audit");
  await press(page, "Show");
  await tab(page, "Insert");
  await press(page, "Insert");
  await says(page, "#stats-note", `No response within 5 s. Browsers open at most ${ADVICE}`);
  await says(page, "#state", ADVICE);
  for (const place of ["#publish .result", "#insert .result"]) await says(page, place, "No response within 15 s. It is unknown whether the request was accepted. ");
  await says(page, "#audit-result", ADVICE);
  await page.unroute("**/insert");
  await press(page, "Insert");
  await says(page, "#insert .result", "stored as");
  assert.deepEqual(faults, []);
});

withBroker("a second press does not publish twice, and the button keeps the focus", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await subscribe(page);
  await page.route("**/publish/*", async (route) => {
    await sleep(400);
    await route.continue();
  });
  const button = form(page, "publish").locator(".primary");
  await button.focus();
  for (let presses = 0; presses < 3; presses += 1) await page.keyboard.press("Enter");
  assert.equal(await button.isDisabled(), true);
  assert.equal(await button.getAttribute("aria-busy"), "true");
  await says(page, "#publish .result", "reached");
  await sleep(600);
  assert.equal(await rows(page).count(), 1);
  assert.equal(await button.evaluate((it) => it === document.activeElement), true);
  assert.deepEqual(faults, []);
});

withBroker("a stream without a byte for a minute is reported", { arguments: ["--heartbeat", "10m"] }, async (broker) => {
  const { page, faults } = await open("about:blank");
  await page.clock.install();
  await page.goto(`${broker.url}/`);
  await page.evaluate(() => {
    window.states = [];
    const watch = new MutationObserver(() => window.states.push(document.querySelector("#state").textContent));
    watch.observe(document.querySelector("#state"), { childList: true });
  });
  await subscribe(page);
  assert.deepEqual(await page.evaluate(() => window.states), ["Connecting…", "Live"]);
  await page.clock.fastForward(50_000);
  assert.equal(await page.locator("#state").textContent(), "Live");
  await page.clock.fastForward(20_000);
  await says(page, "#state", /^Live, silent since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  await press(page, "Publish");
  await says(page, "#publish .result", "reached 1");
  await page.clock.runFor(1000);
  await says(page, "#state", /^Live$/);
  assert.deepEqual(faults.filter((fault) => !fault.startsWith("asked")), []);
});

withBroker("a response disappears when another request is made", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await press(page, "Publish");
  await says(page, "#publish .result", "reached");
  await page.route("**/publish/*", () => {});
  await press(page, "Publish");
  assert.equal(await page.locator("#publish .result").textContent(), "");
  await tab(page, "Insert");
  await press(page, "Insert");
  await press(page, "show versions");
  await says(page, "#audit-result", "1 version of user");
  await field(page, "audit", "name").fill("");
  await press(page, "Show");
  assert.deepEqual(await page.locator("#audit-result, #versions").allTextContents(), ["", ""]);
  await tab(page, "Insert");
  await field(page, "insert", "data").fill("{");
  await press(page, "Insert");
  assert.equal(await page.locator("#insert .result").textContent(), "");
  await tab(page, "Tokens");
  await field(page, "mint", "secret").fill(SECRETS.ESKER_PUBLISHER_SECRET);
  await press(page, "Create token");
  await says(page, "#mint-result", "in its field");
  await field(page, "mint", "names").fill("");
  await press(page, "Create token");
  assert.equal(await page.locator("#mint-result").textContent(), "");
  assert.deepEqual(faults, []);
});
