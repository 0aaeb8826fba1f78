// The publisher and subscriber tokens: entered or created here, with their claims and remaining lifetime. A secret never
// leaves its field; a token stays in the page, unless the user chooses to keep it in this tab.

const ROLES = ["publisher", "subscriber"];
const HASHES = { HS256: "SHA-256", HS384: "SHA-384", HS512: "SHA-512" };
/** RFC 7518 section 3.2; the broker requires it of every secret. */
const MIN_SECRET = 32;

/** The tokens to send; empty for none. */
const tokens = { publisher: "", subscriber: "" };
/** Called when a token changes. */
const onTokenChange = [];

/** What a header field can contain. Whitespace inside a token is a result of copying it with line breaks. */
const SENDABLE = /^[\x21-\x7e]*$/;
/** Times further in the future than this can't be intended, in seconds. */
const CENTURY = 100 * 365.25 * 86_400;

/** Returns the claims of a token, or null if it can't be parsed. Only the broker can verify the signature. */
function claimsOf(token) {
  try {
    const [header, claims, signature] = token.split(".");
    if (signature === undefined) return null;
    const parse = (part) => JSON.parse(new TextDecoder().decode(fromBase64Url(part)));
    return { alg: parse(header).alg, claims: parse(claims) };
  } catch {
    return null;
  }
}

function describe(token, spanned = span) {
  if (!token) return ["", "none"];
  if (/\s/.test(token)) return ["bad", "contains white space: copy it again without line breaks"];
  const read = claimsOf(token);
  if (!read?.claims) return ["bad", "not a token: it must be header.claims.signature"];
  if (typeof read.alg !== "string") return ["bad", "has no alg, so the broker rejects it"];
  if (!Number.isInteger(read.claims.exp)) return ["bad", "has no exp in whole seconds, so the broker rejects it"];
  return describeTimes(read.claims, (seconds) => (seconds > CENTURY ? "more than 100 years" : spanned(seconds)));
}

function describeTimes({ exp, nbf }, spanned) {
  const now = Date.now() / 1000;
  if (exp <= now) return ["bad", `expired ${spanned(now - exp)} ago`];
  if (nbf > now) return ["bad", `becomes valid in ${spanned(nbf - now)}`];
  if (exp - now > CENTURY) return ["soon", "expires in more than 100 years: exp is in seconds, not milliseconds"];
  return [exp - now < 60 ? "soon" : "good", `expires in ${spanned(exp - now)}`];
}

function setToken(role, token) {
  if (tokens[role] === token) return;
  tokens[role] = token;
  $(`token-${role}`).value = token;
  keepTokens();
  showClaims(role);
  tickTokens();
  for (const listener of onTokenChange) listener(role);
}

/** The key of the tokens in the tab's storage; brokers below different paths of one origin have different keys. */
const keptAs = () => `esker-tokens ${BASE.pathname}`;

function keepTokens() {
  const kept = storage("sessionStorage");
  if ($("keep").checked) kept?.setItem(keptAs(), JSON.stringify(tokens));
  else kept?.removeItem(keptAs());
}

function showClaims(role) {
  const read = claimsOf(tokens[role]);
  const place = $(`claims-${role}`);
  place.hidden = !read;
  if (read) place.textContent = `${read.alg ?? "no alg"} ${JSON.stringify(read.claims, null, 2)}`;
}

/** Updates the remaining lifetimes; called every second. */
function tickTokens() {
  for (const role of ROLES) {
    const [kind, text] = needsToken === false && !tokens[role] ? ["", "not needed"] : describe(tokens[role]);
    $(`expiry-${role}`).className = `expiry ${kind}`;
    $(`expiry-${role}`).textContent = text;
  }
  const given = ROLES.filter((role) => tokens[role]);
  const worst = given.map((role) => describe(tokens[role])[0]);
  $("token-state").className = worst.includes("bad") ? "bad" : worst.includes("soon") ? "soon" : "";
  const rough = (seconds) => span(seconds).split(" ").slice(0, 2).join(" ");
  const texts = given.map((role) => `${role} ${describe(tokens[role], rough)[1].replace("expires in ", "")}`);
  // A broker that has not rejected a request for lack of a token may not require one.
  $("token-state").hidden = given.length === 0 && needsToken !== true;
  $("token-state").textContent = texts.length ? `Tokens: ${texts.join(" · ")}` : "No token";
}

async function mint(role, names, seconds, alg, secret) {
  const encoder = new TextEncoder();
  const part = (value) => toBase64Url(encoder.encode(JSON.stringify(value)));
  const claims = { topics: names, exp: Math.ceil(Date.now() / 1000 + seconds) };
  const signed = `${part({ alg, typ: "JWT" })}.${part(claims)}`;
  const algorithm = { name: "HMAC", hash: HASHES[alg] };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["sign"]);
  return `${signed}.${toBase64Url(new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(signed))))}`;
}

/** Reads the form. */
function readMintForm() {
  const form = $("mint").elements;
  const role = form.role.value;
  const names = form.names.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const isName = (name) =>
    TOPIC.test(name) || /^[a-z0-9]{0,64}\*$/.test(name) || name === "events" || (name === "stats" && role === "publisher");
  const bad = names.find((name) => !isName(name));
  const ttl = /^(\d+)\s*(s|m|h)$/.exec(form.ttl.value.trim());
  const seconds = ttl ? Number(ttl[1]) * { s: 1, m: 60, h: 3600 }[ttl[2]] : 0;
  return { role, names, bad, seconds, ttl: ttl?.[0], alg: form.alg.value, secret: form.secret.value };
}

function validateMint({ role, names, bad, seconds, secret }) {
  const form = $("mint").elements;
  const about = role === "publisher" ? "events or stats" : "or events";
  const nameComplaint = bad ? `${bad}: enter topics (8 to 64 letters and digits), prefixes*, ${about}` : "Enter a name, or *";
  const size = new TextEncoder().encode(secret).length;
  return (
    check(form.names, bad || !names.length ? nameComplaint : "") &&
    check(form.ttl, seconds ? "" : "Enter a time such as 90s, 30m or 8h") &&
    check(form.secret, size >= MIN_SECRET ? "" : `A secret must have at least ${MIN_SECRET} bytes; this one has ${size}`)
  );
}

async function submitMint(event) {
  event.preventDefault();
  const asked = readMintForm();
  showResult($("mint-result"), true);
  if (!validateMint(asked)) return;
  setToken(asked.role, await mint(asked.role, asked.names, asked.seconds, asked.alg, asked.secret));
  showResult($("mint-result"), true, `The ${asked.role} token is in its field above. The secret was not sent anywhere.`);
}

function showMintCommand() {
  const { role, names, ttl, alg } = readMintForm();
  const option = role === "publisher" ? "--publish" : "--subscribe";
  const words = names.flatMap((name) => [option, quoted(name)]);
  const note = alg === "HS256" ? "" : `  # signs with HS256, not ${alg}`;
  $("mint-command").textContent = `esker token ${words.join(" ")} --ttl ${ttl ?? "1h"}${note}`;
}

function setUpTokens() {
  for (const role of ROLES) {
    $(`token-${role}`).addEventListener("input", (event) => setToken(role, event.target.value.trim()));
  }
  $("keep").addEventListener("change", keepTokens);
  const form = $("mint");
  form.addEventListener("submit", submitMint);
  form.addEventListener("input", (event) => {
    event.target.setCustomValidity("");
    showMintCommand();
  });
  $("copy-mint").addEventListener("click", (event) => copy($("mint-command").textContent, event.target));
  $("no-crypto").hidden = Boolean(globalThis.crypto?.subtle);
  $("do-mint").disabled = !globalThis.crypto?.subtle;
  showMintCommand();
  onNeedChange.push(tickTokens, () => needsToken || $("tokens-hint").replaceChildren("This broker does not require tokens."));
  restoreTokens();
  tickTokens();
  setInterval(tickTokens, 1000);
}

/** Returns the stored tokens, or null if they were not written by this page. */
function readKept(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function restoreTokens() {
  const kept = readKept(storage("sessionStorage")?.getItem(keptAs()));
  if (!kept) return;
  $("keep").checked = true;
  for (const role of ROLES) if (typeof kept[role] === "string") setToken(role, kept[role]);
}
