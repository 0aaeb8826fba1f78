// Values as people read them: times, sizes, JSON, shell commands. Knows no element.

/** A topic as the broker takes it. */
const TOPIC = /^[a-z0-9]{8,64}$/i;

const two = (number) => String(number).padStart(2, "0");

/** The time of day, to the millisecond. */
function clockTime(millis) {
  const at = new Date(millis);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

function dayAndTime(millis) {
  const at = new Date(millis);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clockTime(millis)}`;
}

/** The moment that one of the broker's ids stands for, in milliseconds; null for an id that can't be one. */
function timeOfId(id) {
  const millis = /^\d{16}$/.test(id) ? Number(id) / 1000 : 0;
  return millis > 1.2e12 ? millis : null;
}

/** A span such as `3 min 5 s`. */
function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const units = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = units.findIndex(([size]) => whole >= size);
  if (at < 0) return "0 s";
  const [[size, unit], next] = [units[at], units[at + 1]];
  const rest = next ? Math.floor((whole % size) / next[0]) : 0;
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

/** The same, where less than a second counts. */
function laps(millis) {
  return millis < 1000 ? `${Math.round(millis)} ms` : span(millis / 1000);
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function quantity(number) {
  return number < 100 && number % 1 ? String(Number(number.toPrecision(2))) : compact.format(number);
}

/** So many digits that count, and no exponent for a number that has more before the point. */
function digits(number, count) {
  return number < 10 ** count - 0.5 ? number.toPrecision(count) : String(Math.round(number));
}

function bytes(number) {
  const power = Math.min(4, Math.floor(Math.log2(Math.max(1, number)) / 10));
  const scaled = number / 1024 ** power;
  return power ? `${digits(scaled, 3)} ${" KMGT"[power]}iB` : `${Math.round(number)} B`;
}

/** A short span in seconds as latencies are told. */
function latency(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${digits(seconds, 2)} s`;
}

function plural(count, one) {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

/** Characters that are not seen, or that turn the order of what is seen: controls, and those of bidirectional text. */
const UNSEEN = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** A name in which nothing pretends to be something else. */
function visible(name) {
  return name.replace(UNSEEN, (character) => `\\u{${character.charCodeAt(0).toString(16)}}`);
}

/** What is wrong with a JSON text; empty if nothing is. */
function jsonComplaint(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return error.message;
  }
}

/** The tokens of a JSON text that is known to be one. */
function jsonTokens(text) {
  return text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
}

/** Spaces before the deepest members; ten thousand brackets would have a hundred million. */
const MAX_INDENT = 128;

/** Indents a JSON text token by token: numbers keep their digits, keys their order, as JSON.parse would not. */
function prettyJson(text) {
  let [out, depth, before] = ["", 0, ""];
  for (const token of jsonTokens(text)) {
    const isClosing = token === "}" || token === "]";
    if (isClosing) depth -= 1;
    const isEmpty = isClosing && (before === "{" || before === "[");
    if (before && !isEmpty && (isClosing || "{[,".includes(before))) out += `\n${" ".repeat(Math.min(2 * depth, MAX_INDENT))}`;
    out += token === ":" ? ": " : token;
    if (token === "{" || token === "[") depth += 1;
    before = token;
  }
  return out;
}

/** The members of a JSON object as texts, each value as it was written. */
function jsonMembers(text) {
  const [members, tokens] = [[], jsonTokens(text)];
  let at = 1;
  while (at < tokens.length && tokens[at] !== "}") {
    const key = JSON.parse(tokens[at]);
    let [depth, value] = [0, ""];
    for (at += 2; at < tokens.length && (depth > 0 || (tokens[at] !== "," && tokens[at] !== "}")); at += 1) {
      if (tokens[at] === "{" || tokens[at] === "[") depth += 1;
      if (tokens[at] === "}" || tokens[at] === "]") depth -= 1;
      value += tokens[at];
    }
    members.push([key, value]);
    if (tokens[at] === ",") at += 1;
  }
  return members;
}

/** A word of a POSIX shell's command. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The curl command of a request. */
function curl(url, headers, body) {
  const fields = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  const data = body === undefined ? [] : [`--data-raw ${quoted(body)}`];
  return ["curl", ...(body === undefined ? ["-N"] : []), ...fields, ...data, quoted(url)].join(" ");
}

/** base64url without padding (RFC 4648 section 5), to and from bytes. */
function toBase64Url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromBase64Url(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
}
