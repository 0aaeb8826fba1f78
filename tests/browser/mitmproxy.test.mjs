// mitmproxy between the client module and the broker: by default it passes a response on only when that has ended, so that a
// stream never begins. The module gets every event by polling.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { LIMIT, TOPIC, events, eventually, numbers, openTab, publishNumbers, received, scene, stats } from "./client.support.mjs";
import { root } from "./support.mjs";

/** Pauses between events, in milliseconds: some within a poll, some between two, and some longer than a heartbeat. */
const PAUSES = [0, 0, 30, 90, 110, 700, 0, 1_200, 150, 0, 0, 400, 60, 20, 2_500, 100, 0, 5, 250];
const HEARTBEAT = ["--heartbeat", "2s"];

/** Starts mitmproxy in front of a broker on a free port; `stop()` ends it. */
async function startMitmproxy(url) {
  const home = await mkdtemp(path.join(tmpdir(), "esker-mitmproxy-"));
  const options = ["--mode", `reverse:${url}`, "--listen-host", "127.0.0.1", "--listen-port", "0", "--set", `confdir=${home}`];
  const child = spawn(process.env.ESKER_MITMDUMP, options, { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.stderr.resume();
  const address = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = / listening at ([\d.:]+\d)/.exec(line);
      if (found) resolve(`http://${found[1]}`);
    });
    ended.then((status) => reject(new Error(`mitmproxy ended with ${status}`)));
  });
  return {
    url: address,
    async stop() {
      child.kill("SIGKILL");
      await ended;
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Publishes one event after each pause. */
async function publishIrregularly(broker) {
  for (const [at, pause] of PAUSES.entries()) {
    await sleep(pause);
    await publishNumbers(broker, at + 1, at + 1);
  }
}

test("behind mitmproxy, a page and a Node.js process get every event once and in order, by polling", LIMIT, () =>
  scene({ arguments: HEARTBEAT }, async (broker, context) => {
    const proxy = await startMitmproxy(broker.url);
    const { connect } = await import(pathToFileURL(path.join(root, "scripts/client/esker.js")));
    const seen = [];
    const stream = connect(proxy.url, { topics: [TOPIC], onEvent: ({ data }) => seen.push(data) });
    try {
      const page = await openTab(context, proxy.url);
      // Both have a position, and miss nothing from now on.
      await eventually(true, async () => Boolean(stream.position) && page.evaluate(() => Boolean(globalThis.stream.position)));
      await publishIrregularly(broker);
      const all = numbers(1, PAUSES.length);
      await eventually([all, all], async () => [await events(page), seen]);
      const { errors, gaps, states } = await received(page);
      assert.deepEqual([errors, gaps], [[{ status: undefined, detail: undefined, isFinal: false }], []], "one stream was tried");
      assert.equal(states.at(-1), "open");
      assert.ok((await stats(broker)).streams_opened > 4, "each poll is a stream");
    } finally {
      stream.close();
      await proxy.stop();
    }
  }),
);
