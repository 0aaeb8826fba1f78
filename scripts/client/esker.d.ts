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
  /** The status of the broker's answer, if there was one. */
  readonly status?: number;
  /** What the broker said (problem details, RFC 9457). */
  readonly detail?: string;
  /** No further attempt is made. */
  readonly isFinal: boolean;
}

/** Why a token is asked for: the first one, the last one expired, or it was refused with 401. */
export type TokenReason = "start" | "expired" | "refused";
export type Token = string | ((reason: TokenReason) => string | null | undefined | Promise<string | null | undefined>);

export interface CommonOptions {
  /** The id after which to go on; "0" is everything that is retained. Without, null or empty: what is new, or for records their newest state. */
  position?: string | null;
  /**
   * One connection for all tabs of this origin that ask for the same; on by default. A text keeps those apart who must
   * not share, such as people with different rights.
   */
  shared?: boolean | string;
  /** A function is asked again when the broker says `expired` or refuses with 401. Nothing is sent for null and undefined. */
  token?: Token;
  /** Where the token travels; "header" by default. */
  tokenIn?: "header" | "query";
  /** "include" sends cookies to a broker of another origin. */
  credentials?: RequestCredentials;
  /** A connection without a byte for so long is given up, in milliseconds; 45 000 by default. Longer than the broker's heartbeat. */
  silence?: number;
  /** Closes the stream. */
  signal?: AbortSignal;
  /** Used in place of the page's own. */
  fetch?: (url: URL, init: RequestInit) => Promise<Response>;

  /** For every event, whatever its name, before those of `on`. */
  onEvent?(event: StreamEvent): void;
  onOpen?(): void;
  onState?(state: State): void;
  onRole?(role: Role): void;
  onGap?(gap: Gap): void;
  /** In the tab that has the connection. */
  onExpired?(expiry: Expiry): void;
  /** In the tab that has the connection. */
  onError?(error: StreamError): void;
}

export interface TopicOptions extends CommonOptions {
  /** `GET /subscribe/…`. */
  topics: readonly string[];
  records?: never;
  /** Has the stream told where it is at its start, so that one that is cut off before its first event loses nothing; on by default. */
  prime?: boolean;
}

export interface RecordOptions extends CommonOptions {
  /** `GET /events`: of all names, or of these. */
  records: true | readonly string[];
  topics?: never;
  prime?: never;
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
