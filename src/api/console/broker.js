// Requests to the broker that served this page, each with the token that the user gave for it. Knows no panel.

/** The page lies at the root of the broker, wherever a proxy has put that, with or without the last slash. */
const BASE = new URL(location.pathname.replace(/\/*$/, "/"), location.origin);

/** Why an answer may not come although the broker is well. */
const CROWDED = "A browser opens six connections to a host; close other tabs that have a stream of it.";

function urlOf(path) {
  return new URL(path, BASE).href;
}

/** Statuses of the broker that pass by themselves, though they begin with a 4. */
const PASSING = [408, 425, 429];
/** Whether a request without a token was refused; null until one was refused or answered. */
let needsToken = null;
/** Called when `needsToken` changes. */
const onNeedChange = [];

/** Why the broker did not do what it was asked: its own words, if it had any. A proxy's answer is not `isBrokers`. */
class Refusal extends Error {
  constructor(status, detail, { isBrokers = false, retryAfter = null } = {}) {
    super(detail);
    this.status = status;
    this.isBrokers = isBrokers;
    this.retryAfter = retryAfter;
    /** Another token may help. */
    this.isOfToken = status === 401 || status === 403;
  }

  /** What the page itself refuses to send: it would not arrive. */
  static unsent(detail) {
    return Object.assign(new Refusal(0, detail), { isOfToken: true });
  }

  /** The same question has the same answer, until something else is done. What a proxy answers passes. */
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

  /** The refusal as a text and, where a token would help, the way to it. Who lacks one needs no number for that. */
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

/** The header fields of a request, the role's token among them. */
function fieldsFor(role, others = {}) {
  const token = tokens[role];
  return { ...others, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
}

/** Asks, and answers the response if it is 200; throws a Refusal otherwise. */
async function ask(role, path, { headers = {}, ...rest } = {}) {
  if (!SENDABLE.test(tokens[role])) throw Refusal.unsent(`The ${role}’s token can't be sent: it has white space or foreign letters inside.`);
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
  // The broker's words for this are about header fields, which nobody writes here.
  if (response.status === 401 && !isGiven) refusal.message = `A ${role}’s token is needed.`;
  throw refusal;
}

function noteNeed(need) {
  if (needsToken === need) return;
  needsToken = need;
  for (const act of onNeedChange) act();
}

/** Asks for what ends: its text and its fields, within so many seconds; throws a Refusal otherwise. */
async function askWhole(role, path, seconds, how = {}) {
  try {
    const response = await ask(role, path, { ...how, signal: AbortSignal.timeout(seconds * 1000) });
    return { text: await response.text(), headers: response.headers };
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (error.name !== "TimeoutError") throw new Refusal(0, "The answer broke off.");
    const doubt = how.method === "POST" ? " Whether it was taken is not known." : "";
    throw new Refusal(0, `No answer within ${seconds} s.${doubt} ${CROWDED}`);
  }
}

/** Shows why something failed, whatever it was. */
function tellFailure(place, error) {
  tell(place, false, ...(error instanceof Refusal ? error.shown() : [error.message]));
}
