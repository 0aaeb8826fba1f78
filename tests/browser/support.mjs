// Shared by the browser tests: a broker on a free port, Chromium or Firefox, a file server, and pictures. Independent of any
// page.

import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

import { chromium, firefox } from "playwright-core";

/** The repository's directory. */
export const root = process.env.ESKER_ROOT;

/** Milliseconds; a test fails if a page takes longer to show something. */
export const TIMEOUT = 30_000;

/** The browser that the tests drive: "chromium" or "firefox". */
export const BROWSER = process.env.ESKER_BROWSER ?? "chromium";
const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const FIREFOX = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

/**
 * Starts a broker on a free port, without tokens unless `tokens` is set; `stop()` ends it. Each has a directory of its own.
 * @param {{arguments?: string[], environment?: Record<string, string>, tokens?: boolean, port?: number, home?: string}} [how]
 */
export async function startBroker(how = {}) {
  const home = how.home ?? (await mkdtemp(path.join(tmpdir(), "esker-")));
  const auth = how.tokens ? [] : ["--no-auth"];
  const child = spawn(process.env.ESKER, ["--port", String(how.port ?? 0), ...auth, ...(how.arguments ?? [])], {
    cwd: home,
    env: { ...process.env, ...how.environment },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const url = await new Promise((resolve, reject) => {
    const lines = createInterface({ input: child.stderr });
    const log = [];
    lines.on("line", (line) => {
      log.push(line);
      const address = /listens on (http:\/\/\S+)/.exec(line);
      if (address) resolve(address[1]);
    });
    ended.then((status) => reject(new Error(`the broker ended with ${status}: ${log.join("\n")}`)));
  });
  return {
    url,
    home,
    child,
    /**
     * Stops the broker; its directory is kept if it is to be restarted there. After SIGKILL the next one has no history, so
     * clients get a gap.
     * @param {{keep?: boolean, signal?: NodeJS.Signals}} [how]
     */
    async stop({ keep = false, signal = "SIGTERM" } = {}) {
      child.kill(signal);
      await ended;
      if (!keep) await rm(home, { recursive: true, force: true });
    },
  };
}

/** Starts a browser; `close()` ends it. All pages of a context share cookies and storage, as the tabs of a person do. */
export async function startBrowser(name = BROWSER) {
  if (name === "firefox") return startFirefox();
  // The pages are the tests' own, and the sandbox is unavailable to root; only the pages may use the network.
  const args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"];
  const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath: await installed(CHROMIUM), args: [...args, ...quiet] });
}

/** Starts the distribution's own Firefox, controlled through WebDriver BiDi. */
const startFirefox = async () => firefox.launch({ channel: "moz-firefox", executablePath: await installed(FIREFOX) });

/** Returns the first of these files that exists. */
async function installed(files) {
  const exists = async (file) => Boolean(await stat(file).catch(() => null));
  const found = await Promise.all(files.map(exists));
  const file = files.find((_, at) => found[at]);
  if (!file) throw new Error(`${files[0]} is not installed; scripts/test installs it`);
  return file;
}

/** Serves the files of a directory on a free port; `close()` ends it. */
export async function serveFolder(folder) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const file = path.join(folder, path.normalize(pathname.endsWith("/") ? `${pathname}index.html` : pathname));
    const found = await stat(file).catch(() => null);
    if (!found?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": TYPES[path.extname(file)] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}

/** Saves a picture of the page for visual review: target/browser/shots/NAME.png. */
export function shoot(page, name) {
  return page.screenshot({ path: path.join(process.env.ESKER_SHOTS, `${name}.png`), fullPage: true });
}

/** Publishes SSE text and returns the broker's response. */
export async function publish(broker, topic, text) {
  const response = await fetch(`${broker.url}/publish/${topic}`, { method: "POST", body: text, headers: { "Content-Type": "text/event-stream" } });
  if (response.status !== 200) throw new Error(`publish: ${response.status} ${await response.text()}`);
  return response.json();
}
