// One stream over HTTP, kept up: asks for it, reads it, and asks again from the last id when it ends, with a token where one
// is needed. Refuses to know other tabs, and who listens to which event.

import { Parser } from "./parser.js";

/** The reconnection time of a stream that has not told one yet, in milliseconds. */
const FIRST_RETRY = 3_000;
/** The longest time between two attempts, unless the broker asks for a longer one. */
const LONGEST_WAIT = 60_000;
const MOST_DOUBLINGS = 10;
/** The shortest time between two attempts, whatever the stream asks for. */
const SHORTEST_RETRY = 100;
/** A stream that ended sooner has failed, even if it was answered. */
const STEADY = 5_000;
/** A timer that is to wait longer does not wait at all. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Statuses that are worth another attempt; any other 4xx of the broker is an answer that won't change by itself. */
const PASSING = [408, 425, 429];

/** Why a stream is not there: `status` of the answer, and `detail` if the broker gave one (problem details, RFC 9457). */
export class StreamError extends Error {
  constructor(message, { status, detail, isFinal = false, cause } = {}) {
    super(message, { cause });
    this.name = "StreamError";
    this.status = status;
    this.detail = detail;
    /** No further attempt is made. */
    this.isFinal = isFinal;
  }
}

/**
 * Tells `sink`: `event(event)`, `moved(position)`, `gap(gap)`, `expired(notice)`, `state(state)`, `failed(error)`.
 * `settings`: `address` (the URL without position and token), `prime`, `token`, `tokenIn`, `credentials`, `silence`, `fetch`.
 */
export class Connection {
  #settings;
  #sink;
  #position;
  #retry = FIRST_RETRY;
  #failures = 0;
  #steady;
  #token;
  #reason = "start";
  #isClosed = false;
  #abort = new AbortController();
  #wake = () => {};

  constructor(settings, position, sink) {
    this.#settings = settings;
    this.#position = position;
    this.#sink = sink;
    this.#run();
  }

  /** Nothing is told any more from here on, even if it has been received. */
  close() {
    this.#isClosed = true;
    this.#abort.abort();
    this.#wake();
  }

  /** Ends a pause between two attempts: there is reason to believe that the next one succeeds. */
  nudge() {
    this.#wake();
  }

  async #run() {
    // Whoever made this has a chance to keep it first.
    await null;
    while (!this.#isClosed) {
      const wait = await this.#attempt().catch((error) => this.#afterFailure(error));
      if (this.#isClosed) return;
      this.#sink.state(wait === null ? "closed" : "waiting");
      if (wait === null) return;
      await this.#pause(wait);
    }
  }

  /** One connection from its start to its end; answers the milliseconds until the next, or null for none. */
  async #attempt() {
    this.#abort = new AbortController();
    this.#sink.state("connecting");
    const isFresh = this.#token === undefined;
    if (isFresh) this.#token = await this.#askForToken();
    if (this.#isClosed) return null;
    // A broker that can't be reached need not let the attempt fail: a packet filter drops what it is sent.
    const watch = new Watch(this.#settings.silence, () => this.#abort.abort(new StreamError("the stream fell silent")));
    try {
      const { fetch } = this.#settings;
      const response = await fetch(this.#url(), this.#request());
      if (response.status === 401) return await this.#afterRefusal(response, isFresh);
      await demandStream(response);
      return await this.#read(response.body.getReader(), watch);
    } finally {
      watch.stop();
      clearTimeout(this.#steady);
      this.#abort.abort();
    }
  }

  async #askForToken() {
    const { token } = this.#settings;
    if (!this.#canAskForToken()) return token ?? null;
    try {
      return (await token(this.#reason)) ?? null;
    } catch (cause) {
      throw new StreamError("no token was to be had", { cause });
    }
  }

  #canAskForToken() {
    return typeof this.#settings.token === "function";
  }

  #url() {
    const { address, prime, tokenIn } = this.#settings;
    const url = new URL(address);
    // In the query, because a field of this name would cost a preflight, and an id may hold any character.
    if (this.#position !== undefined) url.searchParams.set("last_event_id", this.#position);
    else if (prime) url.searchParams.set("prime", "");
    if (this.#token && tokenIn === "query") url.searchParams.set("token", this.#token);
    return url;
  }

  #request() {
    const { credentials, tokenIn } = this.#settings;
    const headers = { Accept: "text/event-stream" };
    if (this.#token && tokenIn !== "query") headers.Authorization = `Bearer ${this.#token}`;
    return { headers, credentials, cache: "no-store", signal: this.#abort.signal };
  }

  async #read(reader, watch) {
    let hasExpired = false;
    const parser = new Parser(
      {
        retry: (millis) => (this.#retry = Math.max(millis, SHORTEST_RETRY)),
        moved: (id) => this.#isClosed || this.#sink.moved((this.#position = id)),
        event: (event, isStamped) => {
          if (this.#isClosed) return;
          // What the broker itself has to say has no id; a publisher's event of the same name has one.
          if (!isStamped && event.name === "gap") return this.#sink.gap(JSON.parse(event.data));
          if (!isStamped && event.name === "expired") return void (hasExpired = JSON.parse(event.data));
          this.#position = event.id;
          this.#sink.event(event);
        },
      },
      this.#position,
    );
    this.#steady = setTimeout(() => (this.#failures = 0), STEADY);
    this.#sink.state("open");
    for (let piece = await reader.read(); !piece.done && !this.#isClosed; piece = await reader.read()) {
      watch.reset();
      parser.push(piece.value);
    }
    return hasExpired && !this.#isClosed ? this.#afterExpiry(hasExpired) : this.#backoff();
  }

  #afterExpiry(notice) {
    this.#sink.expired(notice);
    if (!this.#canAskForToken()) throw new StreamError("the token expired", { status: 401, detail: notice.reason, isFinal: true });
    this.#token = undefined;
    this.#reason = "expired";
    return 0;
  }

  async #afterRefusal(response, wasFresh) {
    const error = await refusal(response);
    // A proxy's refusal may pass by itself, and a function may have a better token: only the broker's word on a fixed one is final.
    error.isFinal &&= !this.#canAskForToken();
    if (!this.#canAskForToken()) throw error;
    this.#token = undefined;
    this.#reason = "refused";
    // A token that had been good is replaced at once; one that was never good is not asked for over and over.
    if (wasFresh) throw error;
    return 0;
  }

  #afterFailure(error) {
    if (this.#isClosed) return null;
    const told = this.#abort.signal.aborted && this.#abort.signal.reason instanceof StreamError ? this.#abort.signal.reason : error;
    const failure = told instanceof StreamError ? told : new StreamError("the broker can't be reached", { cause: told });
    this.#sink.failed(failure);
    return failure.isFinal ? null : Math.max(failure.retryAfter ?? 0, this.#backoff());
  }

  /** The stream's reconnection time, doubled with every failure, and up to a quarter more: not all come back at once. */
  #backoff() {
    const longest = Math.max(LONGEST_WAIT, this.#retry);
    const wait = Math.min(longest, this.#retry * 2 ** Math.min(this.#failures, MOST_DOUBLINGS));
    this.#failures += 1;
    return wait * (1 + Math.random() / 4);
  }

  #pause(millis) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.min(millis, LONGEST_TIMER));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Calls `bark` once nothing has happened for `millis`. */
class Watch {
  #millis;
  #bark;
  #timer;

  constructor(millis, bark) {
    this.#millis = millis;
    this.#bark = bark;
    this.reset();
  }

  reset() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#bark, this.#millis);
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

async function demandStream(response) {
  const { status } = response;
  if (status !== 200) throw await refusal(response);
  const type = response.headers.get("Content-Type") ?? "";
  if (!/^text\/event-stream\b/i.test(type)) throw new StreamError(`no event stream but ${type || "nothing"} came`, { status });
}

/** Returns the error for an answer other than a stream. */
async function refusal(response) {
  const { status } = response;
  const isBrokers = /^application\/problem\+json\b/i.test(response.headers.get("Content-Type") ?? "");
  const problem = isBrokers ? await response.json().catch(() => ({})) : {};
  const error = new StreamError(problem.title ?? `status ${status}`, { status, detail: problem.detail, isFinal: isFinal(status, isBrokers) });
  error.retryAfter = Number(response.headers.get("Retry-After")) * 1000 || 0;
  return error;
}

/** What a proxy answers while the broker restarts, or is configured, passes; 204 is how a server ends an EventSource. */
function isFinal(status, isBrokers) {
  return status === 204 || (isBrokers && status >= 400 && status < 500 && !PASSING.includes(status));
}
