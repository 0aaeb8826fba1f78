// Types for esker.js.

/** A received event. The stream doesn't say which of several topics it belongs to; distinguish events by `name`. */
export interface StreamEvent {
  /** "message" if the publisher set no name. */
  readonly name: string;
  readonly data: string;
  /** The id from the broker, or the publisher's own. */
  readonly id: string;
}

/** Events after `after` are no longer retained; all retained events follow. */
export interface Gap {
  readonly after: string;
  /** The oldest retained id, if any. */
  readonly oldest: string | null;
}

/** The token of the connection expired; the stream asks for a new one and resumes. */
export interface Expiry {
  readonly reason: string;
}

/** `idle`: no topics, or no record names. `waiting`: for the next attempt. `closed`: permanently. */
export type State = "connecting" | "open" | "waiting" | "idle" | "closed";

/** `leader`: has the connection for all tabs. `follower`: uses the leader's. `alone`: doesn't share. */
export type Role = "alone" | "leader" | "follower";

/** Why the stream failed. */
export class StreamError extends Error {
  /** The status of the response, if there was one. */
  readonly status: number | undefined;
  /** The broker's explanation (problem details, RFC 9457); undefined if a proxy responded. */
  readonly detail: string | undefined;
  /** Whether the broker itself rejected the stream, so that no further attempt is made. */
  readonly isFinal: boolean;
}

/** Why a token is requested: it is the first one, the last one expired, or it was rejected with 401. */
export type TokenReason = "start" | "expired" | "refused";
export type Token = string | ((reason: TokenReason) => string | null | undefined | Promise<string | null | undefined>);

export interface CommonOptions {
  /** The id to resume after; "0" for all retained events. Null, empty or not set: only new events, or the newest version of each record. */
  position?: string | null | undefined;
  /**
   * Shares one connection among all tabs of this origin that subscribe to the same with the same credentials. On by default in
   * pages, unless `fetch` is set; workers and servers never share. A string names a group: streams of different groups don't share.
   */
  shared?: boolean | string | undefined;
  /** A function is called again after `expired` or a 401. No token is sent for null and undefined. */
  token?: Token | undefined;
  /** Where to send the token; "header" by default. */
  tokenIn?: "header" | "query" | undefined;
  /** "include" sends cookies to a broker with another origin. */
  credentials?: RequestCredentials | undefined;
  /** Reconnects after this many milliseconds without data; 45 000 by default. Must be longer than the broker's heartbeat. */
  silence?: number | undefined;
  /**
   * Polls if no byte of a stream arrives within this many milliseconds; 5 000 by default, `Infinity` to never poll. The module
   * switches back to streams after ten minutes, after an `online` event, or when a poll shows that the network no longer buffers.
   */
  pollAfter?: number | undefined;
  /** Closes the stream when aborted. */
  signal?: AbortSignal | undefined;
  /** Replaces the global `fetch`. Other tabs can't know what it adds to requests, so the stream shares only if `shared` is set. */
  fetch?: ((url: URL, init: RequestInit) => Promise<Response>) | undefined;

  /** Called for every event, before the handlers of `on`. */
  onEvent?: ((event: StreamEvent) => void) | undefined;
  onOpen?: (() => void) | undefined;
  onState?: ((state: State) => void) | undefined;
  onRole?: ((role: Role) => void) | undefined;
  onGap?: ((gap: Gap) => void) | undefined;
  /** Called only in the tab that has the connection. */
  onExpired?: ((expiry: Expiry) => void) | undefined;
  /** Called only in the tab that has the connection. */
  onError?: ((error: StreamError) => void) | undefined;
}

export interface TopicOptions extends CommonOptions {
  /** `GET /subscribe/…`. */
  topics: readonly string[];
  records?: undefined;
  /** Requests the newest id at the start, so that nothing is lost if the stream breaks before its first event; on by default. */
  prime?: boolean | undefined;
}

export interface RecordOptions extends CommonOptions {
  /** `GET /events`: all names, or only these. */
  records: true | readonly string[];
  topics?: undefined;
  prime?: undefined;
}

export class Stream {
  constructor(broker: string | URL, options: TopicOptions | RecordOptions);
  readonly state: State;
  readonly role: Role;
  /** The id of the last event. */
  readonly position: string | undefined;
  /** Null for records. */
  readonly topics: string[] | null;
  /** Calls `handler` for every event with this name ("message" for events without one). Returns a function that removes it. */
  on(name: string, handler: (event: StreamEvent) => void): () => void;
  add(...topics: string[]): void;
  remove(...topics: string[]): void;
  close(): void;
}

export function connect(broker: string | URL, options: TopicOptions | RecordOptions): Stream;
