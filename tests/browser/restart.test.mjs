// A restart of the broker, seen by a page of another origin with a plain EventSource. If a listening socket stays open
// in the meantime, as with systemd's esker.socket, every browser reconnects and gets every event. Without it, Firefox gives up.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { TIMEOUT, publish, serveFolder, startBroker, startBrowser } from "./support.mjs";

const ARGUMENTS = ["--retry", "100ms"];
const RESTARTS = 3;

/**
 * Does what systemd does for a socket unit and its service: listens all the time, and passes its socket to each broker that it
 * starts (sd_listen_fds(3)). systemd-socket-activate is not sufficient: it executes the program, and stops listening with it.
 */
const SOCKET_UNIT = `
import os, socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
print(listener.getsockname()[1], flush=True)
environment = dict(os.environ, LISTEN_FDS="1")
command = ["sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh", *sys.argv[1:]]
broker = None
for line in sys.stdin:
    if line == "start\\n":
        broker = subprocess.Popen(command, env=environment, close_fds=False, stdin=subprocess.DEVNULL)
    elif line == "stop\\n":
        broker.terminate()
        print("stopped", broker.wait(), flush=True)
if broker and broker.poll() is None:
    broker.terminate()
    broker.wait()
`;

/** Starts a broker behind a socket unit: `start()` and `stop()` work like systemctl, `end()` ends both units. */
async function startSocketUnit() {
  const home = await mkdtemp(path.join(tmpdir(), "esker-unit-"));
  const command = ["-I", "-c", SOCKET_UNIT, process.env.ESKER, "--no-auth", ...ARGUMENTS];
  const unit = spawn("python3", command, { cwd: home, stdio: ["pipe", "pipe", "ignore"] });
  const ended = new Promise((resolve) => unit.once("exit", resolve));
  const lines = createInterface({ input: unit.stdout })[Symbol.asyncIterator]();
  const port = Number((await lines.next()).value);
  return {
    url: `http://127.0.0.1:${port}`,
    start: () => unit.stdin.write("start\n"),
    async stop() {
      unit.stdin.write("stop\n");
      assert.equal((await lines.next()).value, "stopped 0");
    },
    async end() {
      unit.stdin.end();
      await ended;
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Opens a page of another origin whose EventSource subscribes to `url`. */
async function openPage(browser, url) {
  const folder = await mkdtemp(path.join(tmpdir(), "esker-page-"));
  await writeFile(path.join(folder, "index.html"), "<!doctype html><title>another origin</title>");
  const site = await serveFolder(folder);
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(site.url);
  await page.evaluate((url) => {
    globalThis.seen = [];
    globalThis.states = [];
    globalThis.source = new EventSource(url);
    const { source, seen, states } = globalThis;
    source.onmessage = ({ data }) => seen.push(data);
    source.onopen = source.onerror = () => states.push(source.readyState);
  }, `${url}/subscribe/greeting?prime`);
  const close = async () => {
    await context.close();
    await site.close();
    await rm(folder, { recursive: true });
  };
  const read = (name) => page.evaluate((name) => globalThis[name], name);
  return { page, close, seen: () => read("seen"), states: () => read("states") };
}

async function until(what, is) {
  const end = Date.now() + TIMEOUT;
  while (!(await is())) {
    if (Date.now() > end) assert.fail(`never: ${what}`);
    await sleep(20);
  }
}

for (const name of ["chromium", "firefox"]) {
  test(`${name} loses nothing when the broker restarts behind systemd's socket unit`, { timeout: TIMEOUT * 4 }, async () => {
    const [unit, browser] = [await startSocketUnit(), await startBrowser(name)];
    const { page, seen, states, close } = await openPage(browser, unit.url);
    try {
      unit.start();
      await until("open", async () => (await states()).length === 1);
      const published = [];
      const send = (count) => Promise.all(Array.from({ length: count }, () => publish(unit, "greeting", `data: ${published.push(String(published.length))}`)));
      for (let restart = 0; restart < RESTARTS; restart++) {
        await send(5);
        await until("all seen", async () => (await seen()).length === published.length);
        const reconnection = page.waitForRequest(/subscribe/);
        await unit.stop();
        await reconnection;
        const sent = send(5);
        unit.start();
        await sent;
        await until("open again", async () => (await states()).at(-1) === 1 && (await states()).length === 3 + 2 * restart);
      }
      await until("all seen", async () => (await seen()).length >= published.length);
      // Concurrent publishes may arrive in any order, but nothing may arrive twice.
      assert.deepEqual((await seen()).sort((a, b) => a - b), published.map((_, at) => String(at + 1)));
      const [open, again] = [[1], Array.from({ length: RESTARTS }, () => [0, 1])];
      assert.deepEqual(await states(), [...open, ...again.flat()], "it was never refused");
    } finally {
      await close();
      await browser.close();
      await unit.end();
    }
  });
}

/** What browsers do without a listening socket: only reported, because it depends on the browser. */
for (const name of ["chromium", "firefox"]) {
  test(`${name} and a restart without a socket unit`, { timeout: TIMEOUT * 4 }, async (t) => {
    const broker = await startBroker({ arguments: ARGUMENTS });
    const browser = await startBrowser(name);
    const { page, states, close } = await openPage(browser, broker.url);
    try {
      await until("open", async () => (await states()).length === 1);
      const refused = page.waitForEvent("requestfailed");
      await broker.stop({ keep: true });
      await refused;
      await until("the refusal is reported", async () => (await states()).length >= 3);
      const state = (await states())[2];
      const words = state === 2 ? "gives the stream up" : "tries again";
      t.diagnostic(`${name} ${browser.version()}: readyState ${state} after a refused reconnection: it ${words}`);
    } finally {
      await close();
      await browser.close();
      await broker.stop();
    }
  });
}
