// Keeps one stream open over HTTP: connects, reads, and reconnects from the last id when the stream ends, with a token if
// the broker requires one. Polls instead where the network holds responses back. Independent of other tabs and of event
// handlers.

import { holdsBack, noteHeldBack, notePassedOn } from "./network.js";
import { Parser } from "./parser.js";

/** The reconnection time before the stream has sent one, in milliseconds. */
const FIRST_RETRY = 3_000;
/** The longest time between two attempts, unless the broker requests a longer one, in milliseconds. */
const LONGEST_WAIT = 60_000;
const MAX_DOUBLINGS = 10;
/** The shortest time between two attempts, whatever the stream requests, in milliseconds. */
const SHORTEST_RETRY = 100;
/** A stream that ends sooner counts as failed, even if it had a response, in milliseconds. */
const STEADY = 5_000;
/** A stream without a byte for this long is held back by the network, in milliseconds: the broker sends the opening at once. */
const PATIENCE = 5_000;
/** A poll that waits this long after its first byte shows that the network passes bytes on, in milliseconds. */
const PASSED_ON = 1_000;
/** The longest time for setTimeout; beyond it, timers fire immediately. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** 4xx statuses that are temporary; any other 4xx of the broker is final. */
const TEMPORARY = [408, 425, 429];

/** Why a stream failed: the `status` of the response, and the broker's `detail` if there is one (RFC 9457). */
export class StreamError extends Error {
  constructor(message, { status, detail, isFinal = false, cause } = {}) {
    super(message, { cause });
    this.name = "StreamError";
    this.status = status;
    this.detail = detail;
    /** Whether no further attempt is made. */
    this.isFinal = isFinal;
  }
}

/** No byte of a stream has arrived in time. */
class HeldBack extends StreamError {}

/**
 * Calls `sink`: `event(event)`, `moved(position)`, `gap(gap)`, `expired(notice)`, `state(state)`, `failed(error)`.
 * `settings`: `address` (the URL without position and token), `startsLive`, `prime`, `token`, `tokenIn`, `credentials`, `silence`,
 * `pollAfter`, `fetch`.
 */
export class Connection {
  #settings;
  #sink;
  #position;
  #retry = FIRST_RETRY;
  #failures = 0;
  #opening;
  #steady;
  #token;
  #reason = "start";
  #isPolling = false;
  /** Whether the last attempt was a poll that has worked, so that the next one is its continuation. */
  #hasPolled = false;
  #isClosed = false;
  #abort = new AbortController();
  #wake = () => {};

  constructor(settings, position, sink) {
    this.#settings = settings;
    this.#position = position;
    this.#sink = sink;
    this.#run();
  }

  /** Closes the connection. The sink is not called anymore, even for data that has already arrived. */
  close() {
    this.#isClosed = true;
    this.#abort.abort();
    this.#wake();
  }

  /** Ends the pause between two attempts, because the next one may succeed. */
  nudge() {
    this.#wake();
  }

  async #run() {
    // Let the caller store this object before it calls the sink.
    await null;
    while (!this.#isClosed) {
      const wait = await this.#attempt().catch((error) => this.#afterFailure(error));
      if (this.#isClosed) return;
      if (wait === null) return this.#sink.state("closed");
      if (!this.#hasPolled) this.#sink.state("waiting");
      await this.#pause(wait);
    }
  }

  /** Runs one connection from start to end. Returns the milliseconds until the next one, or null for none. */
  async #attempt() {
    this.#abort = new AbortController();
    if (!this.#hasPolled) this.#sink.state("connecting");
    this.#hasPolled = false;
    this.#isPolling = holdsBack(this.#settings.address);
    const isFresh = this.#token === undefined;
    if (isFresh) this.#token = await this.#askForToken();
    if (this.#isClosed) return null;
    // If a firewall drops the packets, the attempt would never fail by itself.
    const watch = new Watch(this.#settings.silence, () => this.#abort.abort(new StreamError("the stream was silent for too long")));
    try {
      const { fetch } = this.#settings;
      if (!this.#isPolling) this.#awaitOpening();
      const response = await fetch(this.#url(), this.#request());
      if (response.status === 401) return await this.#afterRefusal(response, isFresh);
      await requireStream(response);
      return await this.#read(response.body.getReader(), watch);
    } finally {
      watch.stop();
      clearTimeout(this.#opening);
      clearTimeout(this.#steady);
      this.#abort.abort();
    }
  }

  /** Aborts the attempt unless the first byte arrives in time. */
  #awaitOpening() {
    const { pollAfter = PATIENCE } = this.#settings;
    const act = () => this.#abort.abort(new HeldBack("no byte of the stream has arrived; polling instead"));
    this.#opening = setTimeout(act, Math.min(pollAfter, LONGEST_TIMER));
  }

  async #askForToken() {
    const { token } = this.#settings;
    if (!this.#canAskForToken()) return token ?? null;
    try {
      return (await token(this.#reason)) ?? null;
    } catch (cause) {
      throw new StreamError("the token function failed", { cause });
    }
  }

  #canAskForToken() {
    return typeof this.#settings.token === "function";
  }

  #url() {
    const { address, startsLive, prime, tokenIn } = this.#settings;
    const url = new URL(address);
    // In the query, because this header would require a preflight, and can't contain every id.
    if (this.#position !== undefined) url.searchParams.set("last_event_id", this.#position);
    if (this.#isPolling) url.searchParams.set("poll", "");
    // A poll also needs a position after a gap that no event follows.
    if (this.#isPolling ? startsLive : prime && this.#position === undefined) url.searchParams.set("prime", "");
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
    let pause = null;
    let begin = null;
    const parser = new Parser(
      {
        retry: (millis) => {
          pause = Math.max(millis, SHORTEST_RETRY);
          // That of a poll is not for streams.
          if (!this.#isPolling) this.#retry = pause;
        },
        moved: (id) => this.#isClosed || this.#sink.moved((this.#position = id)),
        event: (event, hasId) => {
          if (this.#isClosed) return;
          // The broker's own events have no id; events with the same name from publishers do.
          if (!hasId && event.name === "gap") return this.#sink.gap(JSON.parse(event.data));
          if (!hasId && event.name === "expired") return void (hasExpired = JSON.parse(event.data));
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
      clearTimeout(this.#opening);
      begin ??= Date.now();
      parser.push(piece.value);
    }
    if (hasExpired && !this.#isClosed) return this.#afterExpiry(hasExpired);
    return this.#isPolling && pause !== null ? this.#afterPoll(pause, Date.now() - begin) : this.#backoff();
  }

  /** Returns the pause after a poll that the broker has ended, `millis` after its first byte. */
  #afterPoll(pause, millis) {
    if (millis >= PASSED_ON) notePassedOn(this.#settings.address);
    this.#failures = 0;
    this.#hasPolled = true;
    return jitter(pause);
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
    // A proxy's rejection may be temporary, and a function may return another token: only the broker's rejection of a fixed
    // token is final.
    error.isFinal &&= !this.#canAskForToken();
    if (!this.#canAskForToken()) throw error;
    this.#token = undefined;
    this.#reason = "refused";
    // A token that was valid before is replaced immediately; after one that never was, back off.
    if (wasFresh) throw error;
    return 0;
  }

  #afterFailure(error) {
    if (this.#isClosed) return null;
    const cause = this.#abort.signal.aborted && this.#abort.signal.reason instanceof StreamError ? this.#abort.signal.reason : error;
    const failure = cause instanceof StreamError ? cause : new StreamError("the broker can't be reached", { cause });
    this.#sink.failed(failure);
    if (failure instanceof HeldBack) {
      noteHeldBack(this.#settings.address);
      return 0;
    }
    return failure.isFinal ? null : Math.max(failure.retryAfter ?? 0, this.#backoff());
  }

  /** Returns the stream's reconnection time, doubled with every failure. */
  #backoff() {
    const longest = Math.max(LONGEST_WAIT, this.#retry);
    const wait = Math.min(longest, this.#retry * 2 ** Math.min(this.#failures, MAX_DOUBLINGS));
    this.#failures += 1;
    return jitter(wait);
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

/** Returns a time that is longer by up to a quarter, chosen at random, so that clients don't reconnect all at once. */
const jitter = (millis) => millis * (1 + Math.random() / 4);

/** Calls `onSilence` when `reset` has not been called for `millis`. */
class Watch {
  #millis;
  #onSilence;
  #timer;

  constructor(millis, onSilence) {
    this.#millis = millis;
    this.#onSilence = onSilence;
    this.reset();
  }

  reset() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onSilence, this.#millis);
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

async function requireStream(response) {
  const { status } = response;
  if (status !== 200) throw await refusal(response);
  const type = response.headers.get("Content-Type") ?? "";
  if (!/^text\/event-stream\b/i.test(type)) throw new StreamError(`the response is not an event stream: its type is ${type || "missing"}`, { status });
}

/** Returns the error for a response that is not a stream. */
async function refusal(response) {
  const { status } = response;
  const isBrokers = /^application\/problem\+json\b/i.test(response.headers.get("Content-Type") ?? "");
  const problem = isBrokers ? await response.json().catch(() => ({})) : {};
  const error = new StreamError(problem.title ?? `status ${status}`, { status, detail: problem.detail, isFinal: isFinal(status, isBrokers) });
  error.retryAfter = Number(response.headers.get("Retry-After")) * 1000 || 0;
  return error;
}

/** Errors of a proxy, such as during a restart of the broker, are temporary. 204 ends an EventSource, by the standard. */
function isFinal(status, isBrokers) {
  return status === 204 || (isBrokers && status >= 400 && status < 500 && !TEMPORARY.includes(status));
}
