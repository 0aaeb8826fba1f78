// The console's streams when they break: when they reconnect, and from which position.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { closePages, field, open, press, rows, says, subscribe, withBroker } from "./console.mjs";
import { TIMEOUT, publish, shoot, startBroker } from "./support.mjs";

test("a stream resumes after the broker restarts, and a gap is shown", { timeout: TIMEOUT * 3 }, async () => {
  const short = { arguments: ["--retry", "300ms"] };
  let broker = await startBroker(short);
  const port = Number(new URL(broker.url).port);
  try {
    const { page } = await open(`${broker.url}/`, { hash: "#topics=greeting" });
    await says(page, "#state", "Live");
    await publish(broker, "greeting", "data: before");
    await says(page, "#rows .data", "before");
    await press(page, "Disconnect");
    await says(page, "#rows > li.notice .data", "It will resume after");
    await publish(broker, "greeting", "data: meanwhile");
    await says(page, "#rows .data", "meanwhile");
    assert.equal(await page.locator("#rows > li.gap").count(), 0);
    const { home } = broker;
    await broker.stop({ keep: true, signal: "SIGKILL" });
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

withBroker("a reconnection time of months is respected", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await subscribe(page);
  await publish(broker, "greeting", "retry: 4000000000\ndata: later");
  await says(page, "#rows .data", "later");
  await press(page, "Disconnect");
  await says(page, "#state", "Waiting");
  await sleep(300);
  assert.match(await page.locator("#state").textContent(), /Waiting/);
  await press(page, "Reconnect now");
  await says(page, "#state", "Live");
  assert.deepEqual(faults, []);
});

withBroker("with a reconnection time of zero the console still waits, and longer each time", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  let asked = 0;
  await page.route("**/subscribe/**", (route) => {
    asked += 1;
    return route.fulfill({ contentType: "text/event-stream", body: "retry: 0\ndata: again\n\n" });
  });
  await press(page, "Subscribe");
  await says(page, "#rows > li.event .data", "again");
  await sleep(2500);
  assert.ok(asked >= 2 && asked <= 4, `asked ${asked} times in so short a time`);
  const waits = await page.evaluate(() => [[0, 0], [0, 3], [3000, 9], [60_000, 9], [9e9, 0]].map((how) => waitAfter(...how)));
  const between = [[500, 500], [3000, 4000], [22_500, 30_000], [60_000, 60_000], [300_000, 300_000]];
  between.forEach(([least, most], at) => assert.ok(waits[at] >= least && waits[at] <= most, `${waits}`));
  assert.deepEqual(faults, []);
});
