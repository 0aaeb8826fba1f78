// Formats values for people: times, sizes, JSON, shell commands. Independent of the DOM.

/** A valid topic. */
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

/** Returns the time in one of the broker's ids, in milliseconds, or null if it can't be one. */
function timeOfId(id) {
  const millis = /^\d{16}$/.test(id) ? Number(id) / 1000 : 0;
  return millis > 1.2e12 ? millis : null;
}

/** Formats a duration in seconds, such as `3 min 5 s`. */
function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const units = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = units.findIndex(([size]) => whole >= size);
  if (at < 0) return "0 s";
  const [[size, unit], next] = [units[at], units[at + 1]];
  const rest = next ? Math.floor((whole % size) / next[0]) : 0;
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

/** Formats a duration in milliseconds. */
function elapsed(millis) {
  return millis < 1000 ? `${Math.round(millis)} ms` : span(millis / 1000);
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function quantity(number) {
  return number < 100 && number % 1 ? String(Number(number.toPrecision(2))) : compact.format(number);
}

/** Formats a number with `count` significant digits, without an exponent. */
function digits(number, count) {
  return number < 10 ** count - 0.5 ? number.toPrecision(count) : String(Math.round(number));
}

function bytes(number) {
  const power = Math.min(4, Math.floor(Math.log2(Math.max(1, number)) / 10));
  const scaled = number / 1024 ** power;
  return power ? `${digits(scaled, 3)} ${" KMGT"[power]}iB` : `${Math.round(number)} B`;
}

/** Formats a latency in seconds. */
function latency(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${digits(seconds, 2)} s`;
}

function plural(count, one) {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

/** Invisible characters, and those that change the direction of text. */
const UNSEEN = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Escapes invisible characters, so that a name can't pretend to be another one. */
function visible(name) {
  return name.replace(UNSEEN, (character) => `\\u{${character.charCodeAt(0).toString(16)}}`);
}

/** Returns what is wrong with a JSON text, or an empty string. */
function jsonComplaint(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return error.message;
  }
}

/** Splits a valid JSON text into tokens. */
function jsonTokens(text) {
  return text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
}

/** Maximum indentation in spaces; without it, ten thousand nested brackets would take a hundred million. */
const MAX_INDENT = 128;

/** Indents a JSON text token by token. Unlike with JSON.parse, numbers keep their digits and keys their order. */
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

/** Returns the members of a JSON object as `[key, value]`, with each value as it was written. */
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

/** Quotes a word for a POSIX shell. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Returns the curl command for a request. */
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
