// The types of esker.js.

/** An event as it came. Which of several topics it is of the stream does not say: tell them apart by `name`. */
export interface StreamEvent {
  /** "message" if the publisher gave none. */
  readonly name: string;
  readonly data: string;
  /** The broker's id, or the publisher's own. */
  readonly id: string;
}

/** Events after `after` are no longer retained; all that is follows. */
export interface Gap {
  readonly after: string;
  /** The oldest id that is retained, if anything is. */
  readonly oldest: string | null;
}

/** The token of the connection expired; the stream asks for the next one and goes on. */
export interface Expiry {
  readonly reason: string;
}

/** `idle`: no topics, or no names of records. `waiting`: for the next attempt. `closed`: for good. */
export type State = "connecting" | "open" | "waiting" | "idle" | "closed";

/** `leader`: has the connection for all tabs. `alone`: shares with nobody. */
export type Role = "alone" | "leader" | "follower";

/** Why the stream is not there. */
export class StreamError extends Error {
  /** The status of the answer, if there was one. */
  readonly status: number | undefined;
  /** What the broker said (problem details, RFC 9457); a proxy's answer has none. */
  readonly detail: string | undefined;
  /** No further attempt is made: the broker itself refused. Everything else is tried again. */
  readonly isFinal: boolean;
}

/** Why a token is asked for: the first one, the last one expired, or it was refused with 401. */
export type TokenReason = "start" | "expired" | "refused";
export type Token = string | ((reason: TokenReason) => string | null | undefined | Promise<string | null | undefined>);

export interface CommonOptions {
  /** The id after which to go on; "0" is everything that is retained. Without, null or empty: what is new, or for records their newest state. */
  position?: string | null | undefined;
  /**
   * One connection for all tabs of this origin that ask for the same with the same credentials. On by default in pages, unless
   * there is a `fetch`; workers and servers never share. A text names a group: streams of different groups do not share.
   */
  shared?: boolean | string | undefined;
  /** A function is asked again when the broker says `expired` or refuses with 401. Nothing is sent for null and undefined. */
  token?: Token | undefined;
  /** Where the token travels; "header" by default. */
  tokenIn?: "header" | "query" | undefined;
  /** "include" sends cookies to a broker of another origin. */
  credentials?: RequestCredentials | undefined;
  /** A connection without a byte for so long is given up, in milliseconds; 45 000 by default. Longer than the broker's heartbeat. */
  silence?: number | undefined;
  /** Closes the stream. */
  signal?: AbortSignal | undefined;
  /** Used in place of the global one. What it adds is unknown to other tabs, so that the stream shares only if `shared` is set. */
  fetch?: ((url: URL, init: RequestInit) => Promise<Response>) | undefined;

  /** For every event, whatever its name, before those of `on`. */
  onEvent?: ((event: StreamEvent) => void) | undefined;
  onOpen?: (() => void) | undefined;
  onState?: ((state: State) => void) | undefined;
  onRole?: ((role: Role) => void) | undefined;
  onGap?: ((gap: Gap) => void) | undefined;
  /** In the tab that has the connection. */
  onExpired?: ((expiry: Expiry) => void) | undefined;
  /** In the tab that has the connection. */
  onError?: ((error: StreamError) => void) | undefined;
}

export interface TopicOptions extends CommonOptions {
  /** `GET /subscribe/…`. */
  topics: readonly string[];
  records?: undefined;
  /** Has the stream told where it is at its start, so that one that is cut off before its first event loses nothing; on by default. */
  prime?: boolean | undefined;
}

export interface RecordOptions extends CommonOptions {
  /** `GET /events`: of all names, or of these. */
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
  /** For every event of this name ("message": those without). Returns what takes the handler back. */
  on(name: string, handler: (event: StreamEvent) => void): () => void;
  add(...topics: string[]): void;
  remove(...topics: string[]): void;
  close(): void;
}

export function connect(broker: string | URL, options: TopicOptions | RecordOptions): Stream;
