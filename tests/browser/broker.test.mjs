// The support itself: a page of another origin hears an event.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENCE, publish, startBroker, startBrowser } from "./support.mjs";

test("a page hears an event", { timeout: PATIENCE * 2 }, async () => {
  // The page is blank: its origin is null.
  const broker = await startBroker({ arguments: ["--origin", "null"] });
  const browser = await startBrowser();
  try {
    const page = await browser.newPage();
    const heard = page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const source = new EventSource(url);
          source.onmessage = (event) => resolve(event.data);
        }),
      `${broker.url}/subscribe/greeting?last_event_id=0`,
    );
    await publish(broker, "greeting", "data: hello");
    assert.equal(await heard, "hello");
  } finally {
    await browser.close();
    await broker.stop();
  }
});
