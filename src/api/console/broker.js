// Requests to the broker that served this page, with the token for their role. Independent of the panels.

/** The URL of the broker's root, which a proxy may serve below a path; the page's URL may lack the trailing slash. */
const BASE = new URL(location.pathname.replace(/\/*$/, "/"), location.origin);

/** Why a response may not arrive although the broker is fine. */
const CROWDED = "Browsers open at most six connections per host; close other tabs with streams from this broker.";

function urlOf(path) {
  return new URL(path, BASE).href;
}

/** 4xx statuses that are temporary. */
const PASSING = [408, 425, 429];
/** Whether the broker requires tokens; null until a request without one has been rejected or accepted. */
let needsToken = null;
/** Called when `needsToken` changes. */
const onNeedChange = [];

/** A rejected or failed request, with the broker's reason if there is one. `isBrokers` is false if a proxy responded. */
class Refusal extends Error {
  constructor(status, detail, { isBrokers = false, retryAfter = null } = {}) {
    super(detail);
    this.status = status;
    this.isBrokers = isBrokers;
    this.retryAfter = retryAfter;
    /** Whether another token may help. */
    this.isOfToken = status === 401 || status === 403;
  }

  /** Creates a refusal for a request that the page can't send. */
  static unsent(detail) {
    return Object.assign(new Refusal(0, detail), { isOfToken: true });
  }

  /** Whether repeating the request is pointless. A proxy's errors are considered temporary. */
  get isFinal() {
    if (this.status === 0) return this.isOfToken;
    return this.isBrokers && this.status < 500 && !PASSING.includes(this.status);
  }

  static async from(response) {
    const isBrokers = /^application\/problem\+json\b/i.test(response.headers.get("Content-Type") ?? "");
    const problem = isBrokers ? await response.json().catch(() => ({})) : {};
    const detail = problem.detail ?? `${response.status} ${response.statusText}`.trim();
    return new Refusal(response.status, detail, { isBrokers, retryAfter: response.headers.get("Retry-After") });
  }

  /** Returns the reason as text and, if a token would help, a link to the Tokens tab. A missing token needs no status code. */
  shown() {
    const again = this.retryAfter ? ` Try again in ${this.retryAfter} s.` : "";
    const hasNumber = this.status > 0 && this.status !== 401;
    const parts = [...(hasNumber ? [el("b", null, String(this.status)), " "] : []), `${this.message}${again}`];
    return this.isOfToken ? [...parts, " ", tokensLink()] : parts;
  }
}

function tokensLink() {
  return el("button", { type: "button", class: "link", click: goToTokens }, "Tokens…");
}

function goToTokens() {
  openTab("tab-tokens");
  $("tab-tokens").focus();
}

/** Returns the header fields of a request, including the role's token. */
function fieldsFor(role, others = {}) {
  const token = tokens[role];
  return { ...others, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
}

/** Sends a request and returns the response if it is 200; throws a Refusal otherwise. */
async function ask(role, path, { headers = {}, ...rest } = {}) {
  if (!SENDABLE.test(tokens[role])) throw Refusal.unsent(`The ${role} token can't be sent: it contains white space or non-ASCII characters.`);
  const isGiven = tokens[role] !== "";
  const how = { ...rest, headers: fieldsFor(role, headers), cache: "no-store", redirect: "error" };
  let response;
  try {
    response = await fetch(urlOf(path), how);
  } catch (error) {
    if (rest.signal?.aborted) throw error;
    throw new Refusal(0, "The broker can't be reached.");
  }
  if (!isGiven && [200, 401].includes(response.status)) noteNeed(response.status === 401);
  if (response.status === 200) return response;
  const refusal = await Refusal.from(response);
  // The broker's own text is about header fields, which the user of the console doesn't write.
  if (response.status === 401 && !isGiven) refusal.message = `A ${role} token is required.`;
  throw refusal;
}

function noteNeed(need) {
  if (needsToken === need) return;
  needsToken = need;
  for (const listener of onNeedChange) listener();
}

/** Returns the text and headers of a complete response, received within `seconds`; throws a Refusal otherwise. */
async function askWhole(role, path, seconds, how = {}) {
  try {
    const response = await ask(role, path, { ...how, signal: AbortSignal.timeout(seconds * 1000) });
    return { text: await response.text(), headers: response.headers };
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (error.name !== "TimeoutError") throw new Refusal(0, "The response was cut off.");
    const doubt = how.method === "POST" ? " It is unknown whether the request was accepted." : "";
    throw new Refusal(0, `No response within ${seconds} s.${doubt} ${CROWDED}`);
  }
}

/** Shows why something failed. */
function showFailure(place, error) {
  showResult(place, false, ...(error instanceof Refusal ? error.shown() : [error.message]));
}
