// The console under load, by keyboard, on a phone, light and dark: its appearance, and its parts in isolation.

import assert from "node:assert/strict";

import { PHONE, SECRETS, WIDE, inSeconds, insert, open, press, rows, says, subscribe, tab, token, withBroker } from "./console.mjs";
import { publish, shoot } from "./support.mjs";

withBroker("ten thousand quick events don't freeze the page", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=greeting" });
  await says(page, "#state", "Live");
  await watchFrames(page);
  for (let batch = 0; batch < 40; batch += 1) {
    const events = Array.from({ length: 250 }, (_, at) => `event: fast\ndata: {"number":${batch * 250 + at},"text":"${"x".repeat(40)}"}\n\n`);
    await publish(broker, "greeting", events.join(""));
  }
  await says(page, "#counts", "10,000 events");
  await says(page, "#rows .data", '"number":9999');
  assert.equal(await rows(page).count(), 500);
  const longest = await page.evaluate(() => window.longest);
  assert.ok(longest < 1000, `a frame took ${longest} ms`);
  await page.locator("#filter").fill('"number":99');
  assert.equal(await rows(page).count(), 100);
  assert.deepEqual(faults, []);
});

withBroker("events of very many lines don't freeze the page", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=greeting" });
  await says(page, "#state", "Live");
  const lines = (count) => Array.from({ length: count }, (_, at) => `data: ${at % 10}\n`).join("");
  await publish(broker, "greeting", `data: ${"[".repeat(30_000)}${"]".repeat(30_000)}\nid: deep`);
  await publish(broker, "greeting", `data: ${"x".repeat(100_000)}`);
  for (let event = 0; event < 20; event += 1) await publish(broker, "greeting", lines(100_000));
  await says(page, "#counts", "22 events");
  await watchFrames(page);
  await page.locator("#expand").check();
  await rows(page).nth(19).locator("pre").waitFor({ state: "attached" });
  await page.locator("#filter").fill("deep");
  assert.equal(await rows(page).count(), 1);
  await page.locator("#filter").fill("");
  await tab(page, "Raw");
  await tab(page, "Events");
  await page.waitForTimeout(300);
  const longest = await page.evaluate(() => window.longest);
  assert.ok(longest < 500, `a frame took ${longest} ms`);
  const shown = await rows(page).first().locator("pre").textContent();
  assert.equal(shown.split("\n").length, 501);
  assert.ok(shown.endsWith("\n9\n… and 99,500 more lines; use “Copy data” for everything"), shown.slice(-80));
  assert.ok((await rows(page).nth(20).locator("pre").textContent()).endsWith("x\n… and 34,464 more characters; use “Copy data” for everything"));
  assert.ok((await rows(page).nth(21).locator("pre").textContent()).length < 70_000);
  const bounds = await page.evaluate(() => ["", "a", "a\nb", "a\nb\n", "a\nb\nc", "abcdef"].map((text) => bounded(text, 4, 2)));
  const more = (rest) => `\n… and ${rest}; use “Copy data” for everything`;
  assert.deepEqual(bounds, ["", "a", "a\nb", `a\nb${more("1 more line")}`, `a\nb${more("1 more line")}`, `abcd${more("2 more characters")}`]);
  assert.deepEqual(faults, []);
});

withBroker("the console can be used by keyboard alone", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.textContent);
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 40; presses += 1) {
      if ((await focused()) === wanted) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`Tab never leads to ${wanted}`);
  };
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "stream");
  await tabTo("topics");
  await page.keyboard.press("Enter");
  await says(page, "#state", "Live");
  await tabTo("tab-publish");
  for (const next of ["tab-insert", "tab-audit", "tab-topics", "tab-tokens", "tab-publish"]) {
    await page.keyboard.press("ArrowRight");
    assert.equal(await focused(), next);
  }
  await tabTo("data");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("typed");
  await page.keyboard.press("Control+Enter");
  await says(page, "#rows .data", "typed");
  await page.keyboard.press("Control+Enter");
  await says(page, "#counts", "2 events");
  await page.locator("#list").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await rows(page).nth(1).locator("details").getAttribute("open"), "");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid", "the focus is seen");
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, textarea, svg[role=img]")]
      .filter((element) => !(element.labels?.length || element.textContent.trim() || element.getAttribute("aria-label")))
      .map((element) => element.outerHTML),
  );
  assert.deepEqual(nameless, []);
  assert.deepEqual(faults, []);
});

withBroker("the console reports missing browser features, and draws latency if there is any", {}, async (broker) => {
  const { page } = await open(`${broker.url}/`);
  await page.route("**/stats", (route) => route.fulfill({ status: 404, contentType: "application/problem+json", body: '{"detail":"nothing"}' }));
  await says(page, "#stats-note", "a broker started with --admin serves its statistics there");
  assert.equal(await page.locator("#figures").isVisible(), false);
  await page.unroute("**/stats");
  let asked = 0;
  await page.route("**/stats", async (route) => {
    const response = await route.fetch();
    asked += 1;
    const count = asked * 100;
    const buckets = [[0.001, count * 0.5], [0.01, count * 0.98], [0.1, count], [10, count]];
    await route.fulfill({ response, json: { ...(await response.json()), delivery_latency_seconds: { buckets, count, sum: 1 } } });
  });
  await press(page, "Try again");
  await says(page, "#chart-latency .now", "1 ms · 55 ms");
  assert.equal(await page.locator("#figures").isVisible(), true);
  await says(page, "#chart-bytes .now", "B");
  assert.match(await page.locator("#chart-bytes .hints").textContent(), /^\d+ s ago.*now$/);
  assert.match(await page.locator("#chart-latency svg").getAttribute("aria-label"), /now 1 ms · 55 ms/);
  await subscribe(page);
  await press(page, "Publish");
  await rows(page).first().waitFor();
  for (const width of [1440, 1101, 1100, 768, 621, 620, 360, 320]) {
    await page.setViewportSize({ width, height: 900 });
    assert.deepEqual(await cutTexts(page), [], `at ${width}`);
  }
});

withBroker("the console shows the state of the engine and the lag, if there is an engine", {}, async (broker) => {
  const { page, faults } = await open(`${broker.url}/`);
  await says(page, "#about", "up");
  assert.equal(await page.locator("#engine").isVisible(), false);
  let engine = { state: "ready", lag_seconds: 0, server: "Redis 7.0.15", address: "redis://h:6379", reason: null };
  await page.route("**/stats", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), engine } });
  });
  await says(page, "#engine", "engine ready · lag 0 µs");
  assert.equal(await page.locator("#engine.bad").count(), 0);
  assert.equal(await page.locator("#engine").getAttribute("title"), "Redis 7.0.15 · redis://h:6379");
  engine = { ...engine, state: "lost", lag_seconds: 2.5, reason: "the engine can't be reached: connection refused" };
  await says(page, "#engine.bad", "engine lost: publishes are rejected · lag 2.5 s");
  assert.match(await page.locator("#engine").getAttribute("title"), /connection refused$/);
  for (const width of [1440, 1100, 768, 620, 360, 320]) {
    await page.setViewportSize({ width, height: 900 });
    assert.equal(await page.locator("#engine").isVisible(), true, `at ${width}`);
    assert.deepEqual(await cutTexts(page), [], `at ${width}`);
  }
  assert.deepEqual(faults, []);
});

withBroker("the parser conforms to the standard, however the bytes are split", {}, async (broker) => {
  const { page } = await open(`${broker.url}/`);
  const text =
    "\uFEFFid: 1\r\ndata:a\rdata: b\r\r\nevent:  x\ndata\n\nid: \0bad\nid2: 7\nretry: 5x\nretry: 250\ndata: é€😀\n\n" +
    ": note\nid\ndata:  two\ndata:\n\nevent: lost\n\nid: 9\n\ndata: unfinished\n";
  const found = await page.evaluate(async (text) => {
    const bytes = new TextEncoder().encode(text);
    const parse = (size) => {
      const [events, retries, decoder] = [[], [], new TextDecoder()];
      const parser = new SseParser("0", (event) => events.push([event.name, event.data, event.id]), (retry) => retries.push(retry));
      for (let at = 0; at < bytes.length; at += size) parser.push(decoder.decode(bytes.subarray(at, at + size), { stream: true }));
      return JSON.stringify([events, retries, parser.id]);
    };
    return [...new Set(Array.from({ length: bytes.length }, (_, at) => parse(at + 1)))];
  }, text);
  const events = [["message", "a\nb", "1"], [" x", "", "1"], ["message", "é€😀", "1"], ["message", " two\n", ""]];
  assert.deepEqual(found, [JSON.stringify([events, [250], "9"])]);
});

withBroker("sizes and latencies have no exponents", {}, async (broker) => {
  const { page } = await open(`${broker.url}/`);
  const sizes = await page.evaluate(() => [1, 1023, 1024, 1_022_976, 1_023_900, 1_048_575, 1_048_576, 2 ** 51].map(bytes));
  assert.deepEqual(sizes, ["1 B", "1023 B", "1.00 KiB", "999 KiB", "1000 KiB", "1024 KiB", "1.00 MiB", "2048 TiB"]);
  assert.deepEqual(await page.evaluate(() => [0.0005, 0.0551, 1.26, 99.6, 250].map(latency)), ["500 µs", "55 ms", "1.3 s", "100 s", "250 s"]);
});

for (const colorScheme of ["light", "dark"]) {
  for (const [size, viewport] of [["wide", WIDE], ["narrow", PHONE]]) {
    withBroker(`the layout is complete, ${size} and ${colorScheme}`, {}, async (broker) => {
      const { page, faults } = await open(`${broker.url}/`, { hash: "#topics=greeting,weather1", viewport, colorScheme });
      await says(page, "#state", "Live");
      for (let hour = 0; hour < 12; hour += 1) {
        await publish(broker, "weather1", `event: temperature\ndata: {"sensor":"roof","celsius":${20 + hour / 10},"wind":{"from":"NW","speed":4}}`);
        await insert(broker, "user", { name: "Ada", visits: hour });
        await page.waitForTimeout(250);
      }
      await press(page, "Publish");
      await says(page, "#rows .data", "hello");
      await rows(page).nth(1).locator("summary").click();
      await page.waitForTimeout(1200);
      await shoot(page, `console-${size}-${colorScheme}`);
      for (const name of ["Insert", "Audit", "Topics", "Tokens"]) {
        await tab(page, name);
        if (name === "Audit") {
          await press(page, "Show");
          await says(page, "#audit-result", "12 versions");
        }
        if (name === "Topics") await says(page, "#topics-count", "2 topics.");
        for (const role of name === "Tokens" ? ["publisher", "subscriber"] : []) {
          await page.locator(`#token-${role}`).fill(token(SECRETS.ESKER_PUBLISHER_SECRET, { topics: ["*"], exp: inSeconds(7199) }));
        }
        await tab(page, name === "Audit" ? "Raw" : "Events");
        await shoot(page, `console-${size}-${colorScheme}-${name.toLowerCase()}`);
        const [width, wanted] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
        assert.ok(wanted <= width, `${name} is ${wanted} wide on ${width}`);
      }
      assert.deepEqual(await faintTexts(page), []);
      const theme = page.getByLabel("Colours");
      await theme.selectOption(colorScheme === "dark" ? "light" : "dark");
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(ground, colorScheme === "dark" ? "rgb(244, 246, 247)" : "rgb(17, 22, 26)");
      assert.deepEqual(await faintTexts(page), []);
      assert.deepEqual(faults, []);
    });
  }
}

/** Records the longest time between two frames, in milliseconds, as the page's `longest`. */
function watchFrames(page) {
  return page.evaluate(() => {
    window.longest = 0;
    let last = performance.now();
    const step = (now) => {
      window.longest = Math.max(window.longest, now - last);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
}

/** Returns texts that must be completely visible and aren't: figures, at their longest, and times of events. */
function cutTexts(page) {
  return page.evaluate(() => {
    document.querySelector("#chart-latency .now").textContent = "888 µs · 888 µs";
    document.querySelector("#chart-latency .top").textContent = "nothing delivered yet";
    for (const hint of document.querySelectorAll(".hints .since")) hint.textContent = "119 s ago";
    const places = [...document.querySelectorAll("figcaption, .hints, #rows time, #rows .name, button")];
    return places.filter((place) => place.checkVisibility() && place.scrollWidth > place.clientWidth).map((place) => place.textContent);
  });
}

/** Returns texts whose contrast with their background is less than WCAG 2.2 AA requires. */
function faintTexts(page) {
  return page.evaluate(() => {
    const channels = (color) => color.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
      const [R, G, B] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * R + 0.7152 * G + 0.0722 * B;
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = channels(getComputedStyle(at).backgroundColor);
        if (color.length < 4 || color[3] === 1) return color;
      }
      return [255, 255, 255];
    };
    const isFaint = (element) => {
      const [a, b] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const seen = [...document.body.querySelectorAll("*")].filter((element) => element.checkVisibility() && hasText(element) && !element.disabled);
    return seen.filter((element) => !element.closest("script") && isFaint(element)).map((element) => element.outerHTML.slice(0, 120));
  });
}
