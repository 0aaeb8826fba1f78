// Reads a stream as an EventSource does (WHATWG HTML standard, section 9.2), but with fetch, so that it can send a token
// in the Authorization header, start at any position, and read the reason for a rejection. Independent of the DOM.

/** The default reconnection time of browsers, in milliseconds. */
const DEFAULT_RETRY = 3000;
/** Limits for the `retry` of a stream, which may be any number, in milliseconds. */
const [SHORTEST_RETRY, LONGEST_RETRY] = [500, 300_000];
/** Maximum of the exponential back-off after failed attempts, unless `retry` is longer, in milliseconds. */
const LONGEST_BACK_OFF = 30_000;
/** A connection that ends sooner counts as failed, even if it had a response, in milliseconds. */
const STEADY = 5000;

/** Parses text, in any pieces, into events. `id` is the last event id; it is kept across connections. */
class SseParser {
  constructor(id, onEvent, onRetry = () => {}) {
    Object.assign(this, { id, onEvent, onRetry, rest: "", isAfterCr: false });
    this.pendingId = id;
    this.begin();
  }

  begin() {
    Object.assign(this, { name: "", data: [], hasId: false });
  }

  push(text) {
    const isSplit = this.isAfterCr && text.startsWith("\n");
    const more = isSplit ? text.slice(1) : text;
    this.isAfterCr = more === "" ? this.isAfterCr && !isSplit : more.endsWith("\r");
    const lines = (this.rest + more).split(/\r\n|\r|\n/);
    this.rest = lines.pop();
    for (const line of lines) this.take(line);
  }

  take(line) {
    if (line === "") return this.dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") this.data.push(value);
    else if (field === "event") this.name = value;
    else if (field === "id" && !value.includes("\0")) [this.pendingId, this.hasId] = [value, true];
    else if (field === "retry" && /^\d+$/.test(value)) this.onRetry(Number(value));
  }

  dispatch() {
    const { name, data, hasId } = this;
    this.begin();
    this.id = this.pendingId;
    if (data.length) this.onEvent({ name: name || "message", data: data.join("\n"), id: this.id, hasId });
  }
}

const EXPIRED = "The token has expired. Enter another one and subscribe again:";

/** Whether an event is the broker's own. These have no id, unlike events with the same name from publishers. */
function isOwn({ name, hasId }) {
  return !hasId && (name === "gap" || name === "expired");
}

/** Returns the name of the record that an event of a stream of records says was erased, or null if it says something else. */
function erasedName({ name, data }) {
  if (name !== "erased") return null;
  try {
    const { event } = JSON.parse(data) ?? {};
    return typeof event === "string" ? event : null;
  } catch {
    return null;
  }
}

/** Returns the time to wait after `failures` failures in a row, randomized so that pages don't reconnect all at once. */
function waitAfter(retry, failures) {
  const asked = Math.min(Math.max(retry, SHORTEST_RETRY), LONGEST_RETRY);
  const doubled = Math.min(asked * 2 ** failures, Math.max(asked, LONGEST_BACK_OFF));
  return Math.max(asked, doubled * (1 - Math.random() / 4));
}

/** Encodes an id, which may be any text, for a header field, which can only contain bytes. */
function asBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/**
 * A subscription that reconnects until it is stopped or rejected. Calls `on.state(state)`, `on.event(event)` and
 * `on.raw(text)`; a state has a `kind`: connecting, live, waiting (`until`), refused (`refusal`) or stopped. `heardAt` is
 * the time when the last data arrived.
 */
class Stream {
  constructor(path, position, on) {
    Object.assign(this, { path, position, on, retry: DEFAULT_RETRY, failures: 0, liveSince: Infinity, heardAt: 0 });
    Object.assign(this, { isStopped: false, attempt: null, wake: () => {} });
  }

  async run() {
    while (!this.isStopped) {
      this.attempt = new AbortController();
      this.liveSince = Infinity;
      this.on.state({ kind: "connecting" });
      const refusal = await this.connect(this.attempt.signal).catch((error) => error);
      if (this.isStopped) break;
      if (refusal instanceof Refusal && refusal.isFinal) return this.end({ kind: "refused", refusal });
      await this.pause(refusal);
    }
    this.end({ kind: "stopped" });
  }

  /** Reads until the stream ends. Throws if it is rejected or breaks, or if its token has expired and was not replaced. */
  async connect(signal) {
    const token = tokens.subscriber;
    let hasExpired = false;
    const headers = { Accept: "text/event-stream", ...(this.position ? { "Last-Event-ID": asBytes(this.position) } : {}) };
    const response = await ask("subscriber", this.path, { headers, signal });
    const type = response.headers.get("Content-Type") ?? "";
    if (!type.startsWith("text/event-stream")) throw new Refusal(200, `This is not an event stream: the type is ${type || "missing"}.`);
    this.liveSince = this.heardAt = Date.now();
    this.on.state({ kind: "live" });
    const take = (event) => {
      hasExpired ||= isOwn(event) && event.name === "expired";
      this.on.event(event);
    };
    const parser = new SseParser(this.position, take, (retry) => (this.retry = retry));
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done && hasExpired && tokens.subscriber === token) throw new Refusal(401, EXPIRED, { isBrokers: true });
      if (done || this.isStopped) return;
      this.heardAt = Date.now();
      const text = decoder.decode(value, { stream: true });
      this.on.raw(text);
      parser.push(text);
      this.position = parser.id;
    }
  }

  async pause(error) {
    const why = error instanceof Refusal ? error.message : "The connection ended.";
    const atLeast = Math.min((Number(error?.retryAfter) || 0) * 1000, LONGEST_RETRY);
    if (Date.now() - this.liveSince > STEADY) this.failures = 0;
    const wait = Math.max(atLeast, waitAfter(this.retry, this.failures++));
    this.on.state({ kind: "waiting", until: Date.now() + wait, why });
    await new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, wait);
    });
  }

  /** Closes the connection, to demonstrate the reconnection. */
  cut() {
    this.attempt?.abort();
  }

  stop() {
    this.isStopped = true;
    this.cut();
    this.wake();
  }

  end(state) {
    this.isStopped = true;
    this.on.state(state);
  }
}
