// Decides which streams can share a connection: those of pages in one browser that subscribe to the same topics or records
// of the same broker with the same credentials. Computes a name for the group that doesn't reveal the token.

/** Claims that limit when a token is valid, not what it allows. */
const VALIDITY_CLAIMS = ["exp", "iat", "jti", "nbf"];
/** A token older than this is not used for a new connection, in milliseconds. */
const MAX_TOKEN_AGE = 10_000;

/**
 * Returns whether streams can share connections in this environment. Only pages can, because each acts for one person; a
 * server process acts for many, even though Node.js, Deno and Bun also have locks and channels. Browsers provide Web Locks
 * only in secure contexts, which include localhost.
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

/** The tokens of a stream that shares. The first one identifies its credentials and is then used for its connection. */
export class Tokens {
  #source;
  #identity = "";
  #first = null;
  /** Whether the latest token has other credentials than the first, for example because another person has logged in. */
  haveChanged = false;

  /** `source` is the page's `token` option: a token, none, or a function that returns one. */
  constructor(source) {
    this.#source = source;
    /** The `token` for a Connection. */
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

  /** A fixed token is compared as a whole. A function returns a new one each time, so only its lasting claims are compared. */
  async #identityOf(token) {
    if (!token) return "";
    const subject = (typeof this.#source === "function" && lastingClaims(token)) || token;
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(subject)));
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

/** Returns the claims of a JWT that stay the same when it is renewed, or null if it is not a JWT. */
function lastingClaims(token) {
  try {
    // The claims are only compared, so UTF-8 doesn't have to be decoded.
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Object.entries(claims).filter(([name]) => !VALIDITY_CLAIMS.includes(name)).sort();
  } catch {
    return null;
  }
}
