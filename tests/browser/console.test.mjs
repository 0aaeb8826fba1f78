// The console, driven as a person would: what it shows of streams, records and tokens, also behind a proxy, and that it
// asks nobody else.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer, request as forward } from "node:http";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { SECRETS, closePages, field, form, inSeconds, insert, open, press, rows, says, subscribe, tab, token, withBroker } from "./console.mjs";
import { PATIENCE, publish, shoot, startBroker } from "./support.mjs";

const run = promisify(execFile);

withBroker("who presses two buttons sees an event", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await says(page, "#advice", "Press Subscribe");
  await subscribe(page);
  await press(page, "Publish");
  const told = await says(page, "#publish .answer", "reached 1 subscriber");
  const id = /id (\d{16})/.exec(told)[1];
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

withBroker("kinds of content, names, ids and what the broker has to object", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=greeting", expected: ["400"] });
  await says(page, "#state", "Live");
  await page.getByText("JSON", { exact: true }).first().click();
  await field(page, "publish", "event").fill("a name & more");
  await field(page, "publish", "id").fill("my-ünique id");
  await field(page, "publish", "data").fill('{"big": 12345678901234567890, "b": [], "a": {"1": "x"}}');
  await press(page, "Publish");
  await says(page, "#publish .answer", "1 event");
  await press(page, "Publish");
  await says(page, "#publish .answer", "nothing new");
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
  await says(page, "#publish .answer", "2 events");
  await field(page, "publish", "data").fill("event: nothing\n\n");
  await press(page, "Publish");
  await says(page, "#publish .answer.bad", "400");

  await field(page, "publish", "topic").fill("short");
  await press(page, "Publish");
  assert.equal(await field(page, "publish", "topic").getAttribute("aria-invalid"), "true");
  assert.deepEqual(faults, []);
});

withBroker("the curl commands do the same", { tokens: true, environment: SECRETS }, async (broker) => {
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

withBroker("links lead into the page", {}, async (broker) => {
  await publish(broker, "weather1", "data: earlier");
  await insert(broker, "user", 1);
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=weather1,greeting&after=0&audit=user" });
  await says(page, "#rows .data", "earlier");
  await says(page, "#audit-answer", "1 version of user");
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
  assert.equal(await rows(page).first().locator(".source").textContent(), "weather1,greeting,news0001");
  await page.locator("#filter").fill("OF WEATHER");
  assert.equal(await rows(page).count(), 1);
  await page.locator("#filter").fill("");
  assert.equal(await rows(page).count(), 3);
  await press(page, "Pause");
  await publish(broker, "greeting", "data: later");
  await says(page, "#counts", "1 waiting");
  assert.equal(await rows(page).count(), 3);
  await press(page, "Go on");
  await says(page, "#rows .data", "later");
  await press(page, "Clear");
  await says(page, "#counts", "0 events");
  await page.locator("#topics").fill("greeting, tooshrt");
  await press(page, "Subscribe");
  assert.equal(await page.locator("#topics").getAttribute("aria-invalid"), "true");
  assert.deepEqual(faults, []);
});

withBroker("what publishers send is text, whatever it looks like", {}, async (broker) => {
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
  await press(page, "its versions");
  await says(page, "#audit-answer", `1 version of ${evil}`);
  assert.equal(await page.evaluate(() => window.hurt ?? document.querySelectorAll("img, #rows script").length), 0);
  assert.equal(await page.locator("#rows > li.gap").count(), 0, "a publisher's gap is an event");
  assert.deepEqual(faults, []);
});

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
  await says(page, "#insert .answer", "stored as user_v_");
  await says(page, "#rows .data", '{"visits":12345678901234567890,"b":1,"a":2}');
  await insert(broker, "other", 1);
  for (let visits = 2; visits <= 25; visits += 1) await insert(broker, "user", { visits });
  await says(page, "#counts", "25 events");

  await press(page, "its versions");
  await says(page, "#audit-answer", "25 versions of user");
  await page.locator("#audit select[name=limit]").selectOption("10");
  await press(page, "Look");
  await says(page, "#audit-answer", "10 versions of user, and there are more");
  await says(page, "#versions pre", '"visits": 12345678901234567890,');
  await press(page, "More");
  await says(page, "#audit-answer", "20 versions");
  await press(page, "More");
  await says(page, "#audit-answer", /^25 versions of user$/);
  assert.equal(await page.locator("#more").isVisible(), false);
  assert.match(await page.locator("#versions li").nth(1).textContent(), /later.*changed visits −b −a/s);
  await insert(broker, "same", 1);
  await insert(broker, "same", 1);
  await field(page, "audit", "name").fill("same");
  await press(page, "Look");
  await says(page, "#audit-answer", "2 versions of same");
  assert.deepEqual(await page.locator("#versions .changed").allTextContents(), ["unchanged"]);
  await field(page, "audit", "name").fill("user");
  await page.locator("#audit select[name=order]").selectOption("newest");
  await says(page, "#versions pre", '"visits": 25');
  await field(page, "audit", "name").fill("never/inserted é");
  await press(page, "Look");
  await says(page, "#audit-answer", "Nothing was ever inserted");
  assert.deepEqual(faults, []);
});

test("a stream resumes after the broker was started again, and a gap is told", { timeout: PATIENCE * 3 }, async () => {
  const short = { arguments: ["--retry", "300ms"] };
  let broker = await startBroker(short);
  const port = Number(new URL(broker.url).port);
  try {
    const { page } = await open(`${broker.url}/`, { hash: "#topics=greeting" });
    await says(page, "#state", "Live");
    await publish(broker, "greeting", "data: before");
    await says(page, "#rows .data", "before");
    await press(page, "Cut");
    await says(page, "#rows > li.notice .data", "It resumes after");
    await publish(broker, "greeting", "data: meanwhile");
    await says(page, "#rows .data", "meanwhile");
    assert.equal(await page.locator("#rows > li.gap").count(), 0);
    const { home } = broker;
    await broker.stop({ keep: true });
    await says(page, "#state", "Waiting. ");
    await says(page, "#countdown", /\d s/);
    broker = await startBroker({ ...short, port, home });
    await says(page, "#state", "Live");
    await says(page, "#rows > li.gap .data", "nothing is retained");
    await publish(broker, "greeting", "data: afterwards");
    await says(page, "#rows .data", "afterwards");
    await says(page, "#chart-subscribers .now", "1");
    await shoot(page, "console-gap");

    await field(page, "listen", "after").fill("0");
    await subscribe(page);
    await says(page, "#rows .data", "afterwards");
    await rows(page).first().locator("summary").click();
    await publish(broker, "greeting", "data: last");
    await says(page, "#rows .data", "last");
    await press(page, "Resume after this");
    await says(page, "#state", "Live");
    assert.match(page.url(), /after=\d{16}$/);
    await says(page, "#rows .data", "last");
    await press(page, "Stop");
    await says(page, "#state", "Not subscribed");
  } finally {
    await closePages();
    await broker.stop();
  }
});

withBroker("answers that come late are not mixed with others", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  for (let number = 1; number <= 12; number += 1) await insert(broker, "slow", number);
  await insert(broker, "quick", 0);
  await page.route("**/audit/**", async (route) => {
    await sleep(route.request().url().includes("quick") ? 600 : 300);
    await route.continue();
  });
  await tab(page, "Audit");
  for (const name of ["slow", "quick"]) {
    await field(page, "audit", "name").fill(name);
    await press(page, "Look");
  }
  assert.equal(await says(page, "#audit-answer", /version/), "1 version of quick");
  assert.deepEqual(await page.locator("#versions pre").allTextContents(), ["0"]);
  await field(page, "audit", "name").fill("slow");
  await page.locator("#audit select[name=limit]").selectOption("10");
  await press(page, "Look");
  await says(page, "#audit-answer", "10 versions of slow, and there are more");
  await page.locator("#more").dblclick();
  assert.equal(await says(page, "#audit-answer", /^1\d versions of slow$/), "12 versions of slow");
  assert.deepEqual(faults, []);
});

withBroker("a token that is given while the numbers are refused is used", { tokens: true, environment: SECRETS }, async (broker) => {
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

withBroker("who is told to come back in months does not come back at once", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await subscribe(page);
  await publish(broker, "greeting", "retry: 4000000000\ndata: later");
  await says(page, "#rows .data", "later");
  await press(page, "Cut");
  await says(page, "#state", "Waiting");
  await sleep(300);
  assert.match(await page.locator("#state").textContent(), /Waiting/);
  await press(page, "Connect now");
  await says(page, "#state", "Live");
  assert.deepEqual(faults, []);
});

withBroker("tokens: refused, pasted, expired, made here, kept", { tokens: true, environment: SECRETS }, async (broker) => {
  const expected = ["401", "403"];
  const { page, faults } = await open(`${broker.url}/`, { expected });
  await says(page, "#stats-note", "a token is needed");
  assert.equal(await page.locator("#expiry-publisher").textContent(), "not given");
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.waitForTimeout(2500);
  assert.deepEqual(asked, [], "a refused question is not repeated");
  await press(page, "Subscribe");
  await says(page, "#state", "Refused: 401 a token is needed");
  await page.locator("#state button").click();
  await page.locator("#token-subscriber").fill("nonsense");
  await says(page, "#expiry-subscriber", "no token");
  await page.locator("#token-subscriber").fill(token(SECRETS.ESKER_SUBSCRIBER_SECRET, { sub: "greeting", exp: inSeconds(-100) }));
  await says(page, "#expiry-subscriber", /expired 1 min 4\d s ago/);
  await press(page, "Subscribe");
  await says(page, "#state", /Refused: 401 the token expired/);
  await page.locator("#token-subscriber").fill(token(SECRETS.ESKER_SUBSCRIBER_SECRET, { sub: "greeting", exp: inSeconds(3) }));
  await says(page, "#claims-subscriber", '"sub": "greeting"');
  await subscribe(page);
  await says(page, "#rows > li.expired .data", "The token has expired");
  await says(page, "#state", /Refused: 401 the token expired/);

  for (const [role, alg] of [["publisher", "HS256"], ["subscriber", "HS384"], ["subscriber", "HS512"]]) {
    await page.locator("#mint").getByText(role === "publisher" ? "Publisher" : "Subscriber", { exact: true }).click();
    await field(page, "mint", "alg").selectOption(alg);
    await field(page, "mint", "secret").fill("too short");
    await press(page, "Make a token");
    assert.equal(await field(page, "mint", "secret").getAttribute("aria-invalid"), "true");
    await field(page, "mint", "secret").fill(SECRETS[`ESKER_${role.toUpperCase()}_SECRET`]);
    await press(page, "Make a token");
    await says(page, `#claims-${role}`, alg);
    await says(page, `#expiry-${role}`, /expires in 1 h|59 min/);
    if (role === "subscriber") await subscribe(page);
  }
  await page.locator("#stats-note").waitFor({ state: "hidden" });
  await field(page, "mint", "names").fill("news*, greeting");
  await says(page, "#mint-command", "esker token --subscribe 'news*' --subscribe greeting --ttl 1h");
  await tab(page, "Publish");
  await press(page, "Publish");
  await says(page, "#publish .answer", "reached 1 subscriber");
  assert.ok(asked.every((url) => !/token|%22|eyJ/.test(url)), "no token travels in a URL");

  await page.reload();
  await says(page, "#token-state", "No token given");
  await tab(page, "Tokens");
  await page.locator("#token-publisher").fill(token(SECRETS.ESKER_PUBLISHER_SECRET, { topics: ["greeting"], exp: inSeconds(30) }));
  await says(page, "#stats-note", "403");
  await page.locator("#keep").check();
  await page.reload();
  await says(page, "#token-state", /Tokens: publisher \d+ s/);
  await shoot(page, "console-tokens");
  assert.deepEqual(faults, []);
});

/** A proxy that serves the broker under a prefix and nothing beside it; `strays` are requests that left the prefix. */
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
    const onward = forward({ port, path, method: request.method, headers: request.headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
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

withBroker("it works where a proxy has put it, with or without the last slash", {}, async (broker) => {
  const proxy = await startProxy(broker, "/tools/esker");
  try {
    for (const slash of ["", "/"]) {
      const { page, faults } = await open(proxy.url, { hash: `${slash}?from=bookmark#topics=greeting` });
      await says(page, "#state", "Live");
      await press(page, "Publish");
      await says(page, "#publish .answer", "reached 1 subscriber");
      await says(page, "#rows .data", "hello");
      for (let version = 1; version <= 11; version += 1) await insert(broker, "a/b", version);
      await tab(page, "Audit");
      await field(page, "audit", "name").fill("a/b");
      await page.locator("#audit select[name=limit]").selectOption("10");
      await press(page, "Look");
      await says(page, "#audit-answer", "10 versions of a/b, and");
      await press(page, "More");
      await says(page, "#audit-answer", slash ? "20 versions" : "11 versions");
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
