// Acts as a browser: over HTTP/2 with one connection for everything, or over HTTP/1.1 with a connection for each request.
// Both send a request and return its response in the same way.

import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import { connect, constants } from "node:http2";
import * as https from "node:https";

export const NAME = "events.example.com";
/** Milliseconds: a test fails if something takes longer. */
export const TIMEOUT = 20_000;

/** Browsers state the length with HTTP/2 as well. */
function lengthOf(body) {
  return body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
}

/** One connection, many requests. */
export class Http2Browser {
  #session;

  /** Opens a connection to the site; without a certificate, without TLS. */
  static async open(port, ca) {
    const browser = new Http2Browser();
    const lookup = (_name, options, found) =>
      options.all ? found(null, [{ address: "127.0.0.1", family: 4 }]) : found(null, "127.0.0.1", 4);
    const session = connect(`${ca ? "https" : "http"}://${NAME}:${port}`, { ca, lookup, settings: { enablePush: false } });
    await once(session, "connect");
    if (ca) assert.equal(session.alpnProtocol, "h2");
    session.on("error", () => {});
    browser.#session = session;
    return browser;
  }

  async send(method, path, headers, body) {
    const stream = this.#session.request({ ":method": method, ":path": path, ...lengthOf(body), ...headers });
    stream.end(body);
    const [head] = await once(stream, "response");
    stream.on("error", () => {});
    return { status: head[":status"], headers: head, body: stream, cancel: () => stream.close(constants.NGHTTP2_CANCEL) };
  }

  /** The number of requests at a time that the site allows on this connection. */
  get limit() {
    return this.#session.remoteSettings.maxConcurrentStreams;
  }

  /** Disconnects as if the network failed. */
  destroy() {
    this.#session.destroy();
  }
}

/** Connections that are kept for the next requests. */
export class Http1Browser {
  limit = Infinity;
  #agent;
  #options;
  #request;

  static async open(port, ca) {
    const browser = new Http1Browser();
    const { Agent, request } = ca ? https : http;
    browser.#agent = new Agent({ keepAlive: true });
    browser.#options = { host: "127.0.0.1", port, ca, servername: NAME, agent: browser.#agent };
    browser.#request = request;
    return browser;
  }

  async send(method, path, headers, body) {
    const host = `${NAME}:${this.#options.port}`;
    const request = this.#request({ ...this.#options, method, path, headers: { host, ...lengthOf(body), ...headers } });
    request.end(body);
    const [response] = await once(request, "response");
    response.on("error", () => {});
    return { status: response.statusCode, headers: response.headers, body: response, cancel: () => request.destroy() };
  }

  destroy() {
    this.#agent.destroy();
  }
}

/** A stream as growing text. */
export class Stream {
  text = "";
  hasEnded = false;
  #waiting = [];

  constructor({ headers, body, cancel }) {
    this.headers = headers;
    this.cancel = cancel;
    body.setEncoding("utf8");
    body.on("data", (text) => {
      this.text += text;
      this.#look();
    });
    body.on("close", () => {
      this.hasEnded = true;
      this.#look();
    });
  }

  #look() {
    for (const look of this.#waiting) look();
  }

  /** Waits until the text fulfills a condition. */
  until(what, has) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`never ${what}: ${this.text.slice(-300)}`)), TIMEOUT);
      const look = () => {
        if (!has(this.text)) return;
        clearTimeout(timer);
        this.#waiting = this.#waiting.filter((other) => other !== look);
        resolve();
      };
      this.#waiting.push(look);
      look();
    });
  }

  ended() {
    return this.until("ended", () => this.hasEnded);
  }
}

/** Returns a response's body as text. */
export async function text({ body }) {
  body.setEncoding("utf8");
  let all = "";
  for await (const part of body) all += part;
  return all;
}

/** Tries until the result is truthy. */
export async function eventually(what, attempt) {
  const begin = performance.now();
  for (;;) {
    const result = await attempt();
    if (result) return result;
    assert.ok(performance.now() - begin < TIMEOUT, `never ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
