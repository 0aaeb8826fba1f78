// The client module and tokens: they expire, are refused, and are replaced with nothing lost; and cookies of pages.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
  LIMIT, TOPIC, all, events, eventually, numbers, openTab, opened, role, same, scene, site, state, threeTabs, received,
} from "./client.support.mjs";

const SECRET = "a secret of thirty-two bytes or more";
const ENVIRONMENT = { ESKER_PUBLISHER_SECRET: SECRET, ESKER_SUBSCRIBER_SECRET: `${SECRET} for subscribers` };

function mint(secret, topics, seconds, claims = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256" })}.${part({ ...claims, topics, exp: Math.floor(Date.now() / 1000) + seconds })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const subscribers = async (broker) => {
  const headers = { Authorization: `Bearer ${mint(SECRET, ["*"], 60)}` };
  return (await (await fetch(`${broker.url}/stats`, { headers })).json()).subscribers;
};

const subscriberToken = (seconds, claims) => mint(ENVIRONMENT.ESKER_SUBSCRIBER_SECRET, [TOPIC], seconds, claims);

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
      const reports = await Promise.all(pages.map(received));
      const total = (pick) => reports.map(pick).reduce((sum, it) => sum + it);
      assert.ok(total(({ expired }) => expired) >= 2);
      assert.ok(total(({ reasons }) => reasons.filter((it) => it === "expired").length) >= 2);
    }),
  );
}

test("a refused token is requested again; a token for another topic ends the stream", LIMIT, () =>
  scene({ tokens: true, environment: ENVIRONMENT }, async (broker, context) => {
    const tokens = [subscriberToken(-5), subscriberToken(-5), subscriberToken(60)];
    await context.exposeFunction("freshToken", async () => tokens.shift());
    const page = await openTab(context, broker.url, { asksForToken: true });
    await opened([page]);
    const { reasons, errors } = await received(page);
    assert.deepEqual(reasons, ["start", "refused", "refused"]);
    assert.deepEqual(errors.map(({ status, isFinal }) => [status, isFinal]), [[401, false], [401, false]]);
    assert.match(errors[0].detail, /expired/);

    const foreign = mint(ENVIRONMENT.ESKER_SUBSCRIBER_SECRET, ["elsewhere"], 60);
    const refused = await openTab(context, broker.url, { token: foreign });
    await eventually("closed", () => state(refused));
    assert.deepEqual((await received(refused)).errors.map(({ status, isFinal }) => [status, isFinal]), [[403, true]]);
    const bad = await openTab(context, broker.url, { token: subscriberToken(-5) });
    await eventually("closed", () => state(bad));
    assert.deepEqual((await received(bad)).errors.map(({ status, isFinal }) => [status, isFinal]), [[401, true]]);
  }),
);

test("the tabs of one person share a connection, and nobody gets another person's events", LIMIT, () =>
  scene({ tokens: true, environment: ENVIRONMENT }, async (broker, context) => {
    const ada = () => subscriberToken(60, { user: "Ada", jti: String(Math.random()) });
    await context.exposeFunction("freshToken", async () => ada());
    const tabs = [await openTab(context, broker.url, { asksForToken: true }), await openTab(context, broker.url, { asksForToken: true })];
    await opened(tabs);
    await eventually(1, () => subscribers(broker));
    const sameRights = await openTab(context, broker.url, { token: subscriberToken(60, { user: "Grace" }) });
    await opened([sameRights]);
    await eventually(2, () => subscribers(broker));
    const others = [mint(ENVIRONMENT.ESKER_SUBSCRIBER_SECRET, ["elsewhere"], 60), mint("of nobody", [TOPIC], 60), undefined];
    const refused = [];
    for (const token of others) refused.push(await openTab(context, broker.url, { token }));
    await eventually(same(refused, "closed"), all(refused, state));
    await publishWithToken(broker, 1);
    await eventually([["1"], ["1"], ["1"]], all([...tabs, sameRights], events));
    assert.deepEqual(await all(refused, events)(), [[], [], []]);
  }),
);

test("a tab whose next token is another person's stops sharing", LIMIT, () =>
  scene({ tokens: true, environment: ENVIRONMENT }, async (broker, context) => {
    await context.exposeFunction("freshToken", async () => subscriberToken(4, { user: "Ada" }));
    const [leader, follower] = [await openTab(context, broker.url, { asksForToken: true }), await openTab(context, broker.url, { asksForToken: true })];
    await opened([leader, follower]);
    assert.deepEqual([await role(leader), await role(follower)], ["leader", "follower"]);
    const grace = subscriberToken(60, { user: "Grace" });
    await leader.evaluate((token) => (globalThis.freshToken = async () => token), grace);
    await eventually(2, () => subscribers(broker));
    await eventually(["leader", "leader"], all([leader, follower], role));
    await opened([leader, follower]);
    await publishWithToken(broker, 1);
    await eventually([["1"], ["1"]], all([leader, follower], events));
  }),
);

test("a cookie works as a token", LIMIT, () =>
  scene({ tokens: true, environment: ENVIRONMENT, arguments: ["--origin", site.url] }, async (broker, context) => {
    await context.addCookies([{ name: "esker_token", value: subscriberToken(60), url: broker.url }]);
    const page = await openTab(context, broker.url, { credentials: "include" });
    await opened([page]);
    await publishWithToken(broker, 1);
    await eventually(["1"], () => events(page));
  }),
);
