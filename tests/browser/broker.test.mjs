// Tests the test support: a page of another origin receives an event.

import assert from "node:assert/strict";
import { test } from "node:test";

import { TIMEOUT, publish, startBroker, startBrowser } from "./support.mjs";

test("a page receives an event", { timeout: TIMEOUT * 2 }, async () => {
  // The page is blank, so its origin is null.
  const broker = await startBroker({ arguments: ["--origin", "null"] });
  const browser = await startBrowser();
  try {
    const page = await browser.newPage();
    const received = page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const source = new EventSource(url);
          source.onmessage = (event) => resolve(event.data);
        }),
      `${broker.url}/subscribe/greeting?last_event_id=0`,
    );
    await publish(broker, "greeting", "data: hello");
    assert.equal(await received, "hello");
  } finally {
    await browser.close();
    await broker.stop();
  }
});
