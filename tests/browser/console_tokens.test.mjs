// Tokens in the console: pasted, made, stored, refused, expired, and in the curl commands that it shows.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { SECRETS, field, form, inSeconds, open, press, rows, says, subscribe, tab, token, withBroker } from "./console.mjs";
import { shoot } from "./support.mjs";

const run = promisify(execFile);

withBroker("the curl commands have the same effect", { tokens: true, environment: SECRETS }, async (broker) => {
  const { page } = await open(`${broker.url}/`);
  await tab(page, "Tokens");
  await page.locator("#token-publisher").fill(token(SECRETS.ESKER_PUBLISHER_SECRET, { topics: ["*"], exp: inSeconds(60) }));
  await page.locator("#token-subscriber").fill(token(SECRETS.ESKER_SUBSCRIBER_SECRET, { topics: ["*"], exp: inSeconds(60) }));
  await tab(page, "Publish");
  await page.getByText("SSE text", { exact: true }).click();
  await field(page, "publish", "data").fill("id: it's\ndata: $HOME `x` \"y\"\ndata: two");
  await subscribe(page);
  await form(page, "publish").locator("summary").click();
  const shell = async (selector) => JSON.parse((await run("sh", ["-c", `${await page.locator(selector).textContent()} -sS`])).stdout);
  assert.equal((await shell("#publish .command")).subscribers, 1);
  await says(page, "#rows .data", "$HOME `x` \"y\" ⏎ two");
  assert.equal(await rows(page).first().locator(".id").textContent(), "it's");
  await tab(page, "Insert");
  assert.equal((await shell("#insert .command")).event, "user");
  const listen = await page.locator("#request").getAttribute("data-command");
  const { stdout } = await run("sh", ["-c", `${listen} -sS --max-time 1 || true`]);
  assert.match(stdout, /^:\nretry: \d+\nid: \d+\n\n/);
});

withBroker("a token entered while /stats is refused is used", { tokens: true, environment: SECRETS }, async (broker) => {
  const { page } = await open("about:blank");
  await page.route("**/stats", async (route) => {
    const response = await route.fetch();
    await sleep(1000);
    await route.fulfill({ response });
  });
  await page.goto(`${broker.url}/#tab=tokens`);
  await page.locator("#token-publisher").fill(token(SECRETS.ESKER_PUBLISHER_SECRET, { sub: "stats", exp: inSeconds(600) }));
  await says(page, "#about", " up ");
});

withBroker("tokens: refused, pasted, expired, made, stored", { tokens: true, environment: SECRETS }, async (broker) => {
  const expected = ["401", "403"];
  const { page, faults } = await open(`${broker.url}/`, { expected });
  assert.match(await says(page, "#stats-note", "Statistics require"), /^Statistics require a publisher token for the name stats. Tokens…Try again$/);
  assert.equal(await page.locator("#expiry-publisher").textContent(), "none");
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.waitForTimeout(2500);
  assert.deepEqual(asked, [], "a refused request is not repeated");
  await press(page, "Subscribe");
  assert.equal(await says(page, "#state", "Rejected"), "Rejected: A subscriber token is required. Tokens…");
  assert.equal(await rows(page).count(), 0, "the refusal is shown once");
  await page.locator("#state button").click();
  await page.locator("#token-subscriber").fill("nonsense");
  await says(page, "#expiry-subscriber", "not a token");
  await page.locator("#token-subscriber").fill(token(SECRETS.ESKER_SUBSCRIBER_SECRET, { sub: "greeting", exp: inSeconds(-100) }));
  await says(page, "#expiry-subscriber", /expired 1 min 4\d s ago/);
  await press(page, "Subscribe");
  await says(page, "#state", /Rejected: the token expired at/);
  await page.locator("#token-subscriber").fill(token(SECRETS.ESKER_SUBSCRIBER_SECRET, { sub: "greeting", exp: inSeconds(3) }));
  await says(page, "#claims-subscriber", '"sub": "greeting"');
  await subscribe(page);
  await says(page, "#rows > li.expired .data", "The token has expired");
  await says(page, "#state", "Rejected: The token has expired. Enter another one and subscribe again: Tokens…");
  assert.deepEqual(await rows(page).locator(".name").allTextContents(), ["expired"], "and nothing promises that it resumes");

  for (const [role, alg] of [["publisher", "HS256"], ["subscriber", "HS384"], ["subscriber", "HS512"]]) {
    await page.locator("#mint").getByText(role === "publisher" ? "Publisher" : "Subscriber", { exact: true }).click();
    await field(page, "mint", "alg").selectOption(alg);
    await field(page, "mint", "secret").fill("too short");
    await press(page, "Create token");
    assert.equal(await field(page, "mint", "secret").getAttribute("aria-invalid"), "true");
    await field(page, "mint", "secret").fill(SECRETS[`ESKER_${role.toUpperCase()}_SECRET`]);
    await press(page, "Create token");
    await says(page, `#claims-${role}`, alg);
    await says(page, `#expiry-${role}`, /expires in 1 h|59 min/);
    if (role === "subscriber") await subscribe(page);
  }
  await page.locator("#stats-note").waitFor({ state: "hidden" });
  await field(page, "mint", "names").fill("news*, greeting");
  await says(page, "#mint-command", "esker token --subscribe 'news*' --subscribe greeting --ttl 1h");
  await tab(page, "Publish");
  await press(page, "Publish");
  await says(page, "#publish .result", "reached 1 subscriber");
  assert.ok(asked.every((url) => !/token|%22|eyJ/.test(url)), "no token appears in a URL");

  await page.reload();
  await says(page, "#token-state", "No token");
  await tab(page, "Tokens");
  await page.locator("#token-publisher").fill(token(SECRETS.ESKER_PUBLISHER_SECRET, { topics: ["greeting"], exp: inSeconds(30) }));
  await says(page, "#stats-note", "403");
  await page.locator("#keep").check();
  await page.reload();
  await says(page, "#token-state", /Tokens: publisher \d+ s/);
  assert.deepEqual(faults, []);
  // Playwright hides the caret with a style, which Firefox reports as a violation of the policy.
  await shoot(page, "console-tokens");
});

withBroker("tokens are stored per broker, and unreadable ones are not", { tokens: true, environment: SECRETS }, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#tab=tokens", expected: ["401"] });
  const good = token(SECRETS.ESKER_PUBLISHER_SECRET, { sub: "stats", exp: inSeconds(600) });
  for (const text of ["{broken", "5", "null", "[]", '{"publisher":7,"stranger":"x"}']) {
    await page.evaluate((text) => ["esker-tokens", "esker-tokens /"].forEach((key) => sessionStorage.setItem(key, text)), text);
    await page.reload();
    await says(page, "#token-state", "No token");
  }
  await page.locator("#keep").check();
  await page.locator("#token-publisher").fill(good);
  await page.reload();
  await says(page, "#token-state", "Tokens: publisher");
  assert.equal(JSON.parse(await page.evaluate(() => sessionStorage.getItem("esker-tokens /"))).publisher, good);
  assert.deepEqual(faults, []);
});

withBroker("an invalid token is explained", { tokens: true, environment: SECRETS }, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#tab=tokens", expected: ["401"] });
  const place = page.locator("#token-subscriber");
  const signed = (claims) => token(SECRETS.ESKER_SUBSCRIBER_SECRET, { sub: "greeting", ...claims });
  const good = signed({ exp: inSeconds(600) });
  await place.fill(`${good.slice(0, 30)}\n${good.slice(30)}`);
  await says(page, "#expiry-subscriber", "contains white space");
  await press(page, "Subscribe");
  await says(page, "#state", "Rejected: The subscriber token can't be sent: it contains white space or non-ASCII characters. Tokens…");
  await place.fill(`  ${good}\n`);
  await says(page, "#expiry-subscriber", "expires in 9 min");
  await subscribe(page);
  await press(page, "Stop");
  const texts = [
    [`${Buffer.from("{}").toString("base64url")}.${good.split(".")[1]}.x`, "has no alg, so"],
    [good.split(".").slice(0, 2).join("."), "not a token: it must be"],
    [signed({ exp: Date.now() }), "expires in more than 100 years: exp is in seconds, not milliseconds"],
    [signed({ exp: 1e300 }), "expires in more than 100 years"],
    [signed({ exp: -1e300 }), "expired more than 100 years ago"],
    [signed({ exp: inSeconds(600), nbf: 1e300 }), "becomes valid in more than 100 years"],
    [signed({ exp: inSeconds(600), nbf: inSeconds(300) }), /becomes valid in (5|4) min/],
    [signed({ exp: 1.5 }), "has no exp in whole seconds"],
  ];
  for (const [text, words] of texts) {
    await place.fill(text);
    await says(page, "#expiry-subscriber", words);
    assert.ok(!/undefined|NaN|e\+/.test(await page.locator("#token-state").textContent()));
  }
  await place.fill(texts[0][0]);
  await says(page, "#claims-subscriber", /^no alg \{/);
  assert.deepEqual(faults, []);
});
