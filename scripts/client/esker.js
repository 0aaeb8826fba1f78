// A client for Esker brokers: subscribes to several topics, or to records, over one connection. Tabs that subscribe to the
// same with the same credentials share a connection. A page needs this file and the five files next to it, without a build
// step. Independent of how data arrives (connection.js, network.js, parser.js), which streams can share a connection (group.js), and
// how tabs coordinate (tabs.js).

import { Connection, StreamError } from "./connection.js";
import { forgetNetwork } from "./network.js";
import { Tokens, canShare, nameGroup } from "./group.js";
import { Member } from "./tabs.js";

export { StreamError };

/** A stream that has been silent for this long is considered dead, in milliseconds: three of the broker's heartbeats. */
const SILENCE = 45_000;

/** Opens a stream from the broker at `broker`, a URL that may have a path. esker.d.ts describes the options. */
export const connect = (broker, options) => new Stream(broker, options);

export class Stream {
  #broker;
  #options;
  #topics;
  #names;
  #handlers = new Map();
  #position;
  #state = "connecting";
  #role = "alone";
  #source = null;
  /** Identifies the latest attempt to join a group; null after leaving. */
  #joining = null;
  #isClosed = false;
  #isReopening = false;
  #listening = new AbortController();

  constructor(broker, options = {}) {
    if (Boolean(options.topics) === Boolean(options.records)) throw new TypeError("set either topics or records");
    this.#broker = new URL(broker, globalThis.location?.href);
    if (!this.#broker.pathname.endsWith("/")) this.#broker.pathname += "/";
    this.#options = options;
    this.#topics = options.topics ? new Set(options.topics.map(fold)) : null;
    this.#names = Array.isArray(options.records) ? [...options.records] : null;
    // A position that was never stored may be null or empty, depending on the storage.
    this.#position = options.position || undefined;
    this.#listenToPage();
    if (options.signal?.aborted) this.close();
    else this.#reopen();
  }

  /** "connecting", "open", "waiting" (for the next attempt), "idle" (no topics, or no record names) or "closed". */
  get state() {
    return this.#state;
  }

  /** "alone", or, if tabs share, "leader" (has the connection) or "follower". */
  get role() {
    return this.#role;
  }

  /** The id of the last event, from which another stream can resume. */
  get position() {
    return this.#position;
  }

  get topics() {
    return this.#topics ? [...this.#topics] : null;
  }

  /** Calls `handler` for every event with this name ("message" for events without one). Returns a function that removes it. */
  on(name, handler) {
    if (!this.#handlers.has(name)) this.#handlers.set(name, new Set());
    this.#handlers.get(name).add(handler);
    return () => void this.#handlers.get(name).delete(handler);
  }

  /** Subscribes to these topics as well, from the current position. */
  add(...topics) {
    this.#change((set) => topics.forEach((topic) => set.add(fold(topic))));
  }

  /** Unsubscribes from these topics. */
  remove(...topics) {
    this.#change((set) => topics.forEach((topic) => set.delete(fold(topic))));
  }

  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#leave();
    this.#setState("closed");
    this.#listening.abort();
  }

  #change(edit) {
    if (!this.#topics) throw new TypeError("a stream of records has no topics");
    const before = this.#address().href;
    edit(this.#topics);
    if (this.#address().href !== before) this.#reopen();
  }

  // --- The source: a connection, or a membership in a group

  /** Reopens the source, once for all changes made in the same task. */
  #reopen() {
    if (this.#isReopening || this.#isClosed) return;
    this.#isReopening = true;
    queueMicrotask(() => {
      this.#isReopening = false;
      this.#leave();
      this.#enter();
    });
  }

  #leave() {
    this.#joining = null;
    this.#source?.close();
    this.#source = null;
  }

  #enter() {
    if (this.#isClosed) return;
    if (this.#topics?.size === 0 || this.#names?.length === 0) return this.#setState("idle");
    const settings = this.#settings();
    // A custom `fetch` may add credentials that other streams don't have.
    const shared = this.#options.shared ?? !this.#options.fetch;
    if (shared && canShare()) this.#join(settings, shared);
    else this.#connect(settings);
  }

  /** Opens a connection for this stream alone. */
  #connect(settings) {
    const sink = this.#sink();
    sink.role("alone");
    this.#use(() => new Connection(settings, this.#position, sink));
  }

  /** Shares a connection with the streams that subscribe to the same with the same credentials. */
  async #join(settings, shared) {
    const joining = (this.#joining = Symbol());
    const tokens = new Tokens(settings.token);
    // If there is no token, the stream's own connection asks for one again and reports the error.
    const group = await nameGroup(settings, tokens, shared).catch(() => null);
    if (joining !== this.#joining) return;
    if (group === null) return this.#connect(settings);
    const sink = this.#sink(() => tokens.haveChanged && this.#reopen());
    this.#use(() => new Member(group, { ...settings, token: tokens.source }, this.#position, sink));
  }

  #use(open) {
    // The handler called with the role may have closed the stream.
    if (!this.#isClosed) this.#source = open();
    if (this.#isClosed) this.#leave();
  }

  #settings() {
    const { prime = true, token, tokenIn = "header", credentials = "same-origin", silence = SILENCE, pollAfter, fetch } = this.#options;
    const startsLive = Boolean(this.#topics);
    const address = this.#address();
    const call = fetch ?? ((url, init) => globalThis.fetch(url, init));
    return { address, startsLive, prime: prime && startsLive, token, tokenIn, credentials, silence, pollAfter, fetch: call };
  }

  #address() {
    if (this.#topics) return new URL(`subscribe/${[...this.#topics].sort().map(encodeURIComponent).join(",")}`, this.#broker);
    const address = new URL("events", this.#broker);
    for (const name of [...new Set(this.#names ?? [])].sort()) address.searchParams.append("event", name);
    return address;
  }

  /** Returns the sink for a source's reports. `onAccepted` is called when the broker has accepted a connection. */
  #sink(onAccepted = () => {}) {
    const { onOpen, onState, onGap, onExpired, onError, onRole, onEvent } = this.#options;
    return {
      event: (event) => {
        this.#position = event.id;
        call(onEvent, event);
        for (const handler of [...(this.#handlers.get(event.name) ?? [])]) call(handler, event);
      },
      moved: (position) => (this.#position = position),
      gap: (gap) => call(onGap, gap),
      expired: (notice) => call(onExpired, notice),
      failed: (error) => call(onError, error),
      role: (role) => {
        if (role !== this.#role) call(onRole, (this.#role = role));
      },
      state: (state) => {
        if (state === "closed") return this.close();
        if (state === "open") onAccepted();
        if (this.#setState(state) && state === "open") call(onOpen);
      },
    };
  }

  #setState(state) {
    if (state === this.#state) return false;
    this.#state = state;
    call(this.#options.onState, state);
    return true;
  }

  // --- The page

  #listenToPage() {
    const { signal } = this.#listening;
    const listen = (target, type, act) => target?.addEventListener?.(type, (event) => act(event), { signal });
    const { document } = globalThis;
    this.#options.signal?.addEventListener("abort", () => this.close(), { signal });
    listen(globalThis, "online", () => {
      forgetNetwork();
      this.#source?.nudge();
    });
    listen(document, "visibilitychange", () => document.visibilityState === "visible" && this.#source?.nudge());
    // A hidden or frozen page would keep the others waiting. It gets the missed events when it returns.
    listen(globalThis, "pagehide", () => this.#leave());
    listen(globalThis, "pageshow", (event) => event.persisted && this.#reopen());
    listen(document, "freeze", () => this.#leave());
    listen(document, "resume", () => this.#reopen());
  }
}

const fold = (topic) => topic.toLowerCase();

/** Calls a handler. If it throws, the error is reported, and the stream and the other handlers continue. */
function call(handler, ...values) {
  try {
    handler?.(...values);
  } catch (error) {
    if (globalThis.reportError) reportError(error);
    else queueMicrotask(() => { throw error; });
  }
}
