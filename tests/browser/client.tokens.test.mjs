// The client module and tokens: they expire, are refused, and are replaced, without loss; and the pages' cookies.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
  LIMIT, TOPIC, all, events, eventually, numbers, openTab, opened, same, scene, site, state, threeTabs, told,
} from "./client.support.mjs";

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
