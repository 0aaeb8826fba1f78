// Decides which streams may share one connection: those of pages in one browser that ask the same broker for the same with
// the same credentials. Names their group, without showing a token to others of the origin.

/** Claims that limit when a token is valid, not what it allows. */
const VALIDITY_CLAIMS = ["exp", "iat", "jti", "nbf"];
/** A token asked for longer ago than this is not used for a new connection, in milliseconds. */
const MAX_TOKEN_AGE = 10_000;

/**
 * Returns whether streams can share here at all: in pages, each of which acts for one person. A process on a server acts for
 * many, although Node.js, Deno and Bun also have locks and channels. Browsers have Web Locks only in secure contexts, which
 * include localhost.
 */
export const canShare = () =>
  globalThis.document?.defaultView === globalThis &&
  typeof BroadcastChannel === "function" &&
  Boolean(globalThis.navigator?.locks && globalThis.crypto?.subtle);

/** Returns the name of the group that a stream belongs to; asks for its token if that is a function. */
export async function nameGroup({ address, credentials }, tokens, shared) {
  const label = typeof shared === "string" ? shared : "";
  return `esker ${JSON.stringify([label, credentials, await tokens.identify(), String(address)])}`;
}

/** The tokens of a stream that shares. The first one shows which credentials it has, and is then used for its connection. */
export class Tokens {
  #source;
  #identity = "";
  #first = null;
  /** Whether the latest token was of other credentials than the first: another person has logged in, for example. */
  haveChanged = false;

  /** `source` is what the page gave: a token, none, or a function that is asked for one. */
  constructor(source) {
    this.#source = source;
    /** What a Connection takes as its `token`. */
    this.source = typeof source === "function" ? (reason) => this.#ask(reason) : source;
  }

  /** Returns a digest that is the same for streams with the same credentials. */
  async identify() {
    if (typeof this.#source === "function") this.#first = { token: await this.#source("start"), time: Date.now() };
    this.#identity = await this.#identityOf(this.#first ? this.#first.token : this.#source);
    return this.#identity;
  }

  async #ask(reason) {
    const first = this.#first;
    this.#first = null;
    if (first && reason === "start" && Date.now() - first.time < MAX_TOKEN_AGE) return first.token;
    const token = await this.#source(reason);
    this.haveChanged = (await this.#identityOf(token)) !== this.#identity;
    return token;
  }

  /** A given token is compared as it is. A function returns a new one each time, of which the lasting claims are compared. */
  async #identityOf(token) {
    if (!token) return "";
    const subject = (typeof this.#source === "function" && lastingClaims(token)) || token;
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(subject)));
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

/** Returns the claims of a JWT that stay the same when it is renewed, or null if this is none. */
function lastingClaims(token) {
  try {
    // The characters of the claims are compared, not shown, so their bytes do.
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Object.entries(claims).filter(([name]) => !VALIDITY_CLAIMS.includes(name)).sort();
  } catch {
    return null;
  }
}
