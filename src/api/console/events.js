// The list of events and the raw text: limited in size, and drawn once per frame, however fast the stream is.

/** Maximum number of rows; older ones are removed. */
const MAX_ROWS = 500;
/** Maximum number of characters of data in all rows together. */
const MAX_CHARS = 8 << 20;
/** Maximum number of characters of an event's data in its row, and of characters and lines in its details. */
const MAX_PREVIEW = 240;
const MAX_DETAIL = 64 << 10;
const MAX_LINES = 500;
/** Maximum number of characters in the raw view. */
const MAX_RAW = 48 << 10;
/** Only batches smaller than this are highlighted on arrival; larger ones would just flicker. */
const MAX_FRESH = 20;
/** How often events are announced to screen readers, in milliseconds. */
const ANNOUNCE_EVERY = 4000;

const log = { kept: [], pending: [], chars: 0, count: 0, skipped: 0, isPaused: false, filter: "", isDue: false };
const raw = { text: "", isNew: false };
/** Called by the button in an event's details; set by the owner of the stream. */
let resumeAfter = () => {};

/** Adds an event or a notice of the console: `{kind, source, name, id, data}`. Returns the entry, for `amendEntry`. */
function addEntry(entry) {
  const timed = entry.kind === "event" && timeOfId(entry.id);
  const added = { ...entry, millis: timed || Date.now(), row: null };
  log.pending.push(added);
  log.chars += entry.data.length;
  if (entry.kind === "event") log.count += 1;
  if (log.pending.length > 2 * MAX_ROWS || log.chars > 2 * MAX_CHARS) trim(log.pending);
  drawSoon();
  return added;
}

/** Replaces the text of a notice. */
function amendEntry(entry, data) {
  log.chars += data.length - entry.data.length;
  entry.data = data;
  entry.row?.querySelector(".data").replaceChildren(data);
}

/** Removes the oldest entries until the limits are met. */
function trim(entries) {
  let gone = Math.max(0, entries.length - MAX_ROWS);
  let left = entries.slice(gone).reduce((sum, entry) => sum + entry.data.length, 0);
  while (left > MAX_CHARS && gone < entries.length - 1) left -= entries[gone++].data.length;
  for (const entry of entries.splice(0, gone)) {
    entry.row?.remove();
    log.chars -= entry.data.length;
    log.skipped += 1;
  }
}

/** Removes the events of a source with this name. */
function removeEvents(source, name) {
  const isKept = (entry) => entry.kind !== "event" || entry.source !== source || entry.name !== name;
  for (const entry of [...log.kept, ...log.pending].filter((entry) => !isKept(entry))) {
    entry.row?.remove();
    log.chars -= entry.data.length;
  }
  log.kept = log.kept.filter(isKept);
  log.pending = log.pending.filter(isKept);
  drawSoon();
}

function addRaw(text) {
  raw.text += text;
  raw.isNew = true;
  if (raw.text.length > 2 * MAX_RAW) raw.text = raw.text.slice(-MAX_RAW);
  drawSoon();
}

function drawSoon() {
  if (log.isDue) return;
  log.isDue = true;
  requestAnimationFrame(draw);
}

function draw() {
  log.isDue = false;
  if (!log.isPaused) {
    showPending();
    showRaw();
  }
  showCounts();
}

function showPending() {
  if (!log.pending.length) return;
  const fresh = log.pending.splice(0);
  log.kept.push(...fresh);
  trim(log.kept);
  const rows = document.createDocumentFragment();
  for (const entry of fresh.slice(-MAX_ROWS).reverse()) {
    if (!isShown(entry)) continue;
    entry.row = rowOf(entry);
    entry.row.classList.toggle("fresh", fresh.length < MAX_FRESH);
    rows.append(entry.row);
  }
  $("rows").prepend(rows);
  showHeads();
}

/** Hides the topic column if no row has a known topic. */
function showHeads() {
  $("heads").hidden = log.kept.length === 0;
  $("list").classList.toggle("mixed", !log.kept.some(hasTopic));
}

function showRaw() {
  const place = $("raw");
  if (!raw.isNew || place.closest("[hidden]")) return;
  raw.isNew = false;
  const isAtEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
  place.textContent = raw.text.slice(-MAX_RAW);
  if (isAtEnd) place.scrollTop = place.scrollHeight;
}

function showCounts() {
  const waiting = log.isPaused && log.pending.length ? ` · ${log.pending.length} waiting` : "";
  const skipped = log.skipped ? ` · newest ${log.kept.length} kept` : "";
  $("counts").textContent = plural(log.count, "event") + skipped + waiting;
  $("empty").hidden = log.kept.length > 0;
}

function isShown({ kind, name, id, data, source }) {
  return kind !== "event" || [name, id, data, source].some((text) => text.toLowerCase().includes(log.filter));
}

/** Whether the topic of an event is known: with several topics, the stream doesn't contain it. */
const hasTopic = ({ source }) => !source.includes(",");

/** Creates an expandable row; its details are created when it is first opened. */
function rowOf(entry) {
  const summary = el(
    "summary",
    { tabindex: "-1" },
    el("time", { datetime: new Date(entry.millis).toISOString() }, clockTime(entry.millis)),
    hasTopic(entry) ? el("span", { class: "source", title: "Topic" }, entry.source) : el("span", { class: "unknown" }),
    el("span", { class: "name", title: "Event name" }, visible(entry.name)),
    el("span", { class: "data" }, entry.data.slice(0, MAX_PREVIEW).replaceAll("\n", " ⏎ ")),
    el("span", { class: "id" }, visible(entry.id)),
  );
  if (entry.kind !== "event") return el("li", { class: entry.kind }, el("div", { class: "plain" }, ...summary.childNodes));
  const details = el("details", null, summary);
  details.addEventListener("toggle", () => {
    if (details.open && !summary.nextSibling) details.append(...detailsOf(entry));
  });
  details.open = $("expand").checked;
  return el("li", { class: entry.kind }, details);
}

/** Returns the end of the line with this number, counted from 1, or of the text if it has fewer lines. */
function endOfLine(text, number) {
  let end = -1;
  for (let line = 0; line < number; line += 1) {
    end = text.indexOf("\n", end + 1);
    if (end < 0) return text.length;
  }
  return end;
}

/** Cuts a text at the limits, with a note about the rest. */
function bounded(text, maxChars, maxLines) {
  const shown = text.slice(0, Math.min(endOfLine(text, maxLines), maxChars));
  if (shown.length === text.length) return text;
  let lines = 0;
  for (let at = text.indexOf("\n", shown.length); at >= 0; at = text.indexOf("\n", at + 1)) lines += 1;
  const rest = lines ? plural(lines, "more line") : plural(text.length - shown.length, "more character");
  return `${shown}\n… and ${rest}; use “Copy data” for everything`;
}

function detailsOf({ data, id, hasId, name, source, millis }) {
  const isJson = /^\s*[{[\x22\d-]/.test(data) && data.length <= MAX_DETAIL && jsonComplaint(data) === "";
  const size = bytes(new TextEncoder().encode(data).length);
  const facts = [dayAndTime(millis), visible(name), source, ...(id ? [`id ${visible(id)}`] : []), size];
  const resume = el("button", { type: "button", class: "small", click: () => resumeAfter(id) }, "Resume after this");
  return [
    el("pre", { class: "full", tabindex: "0" }, bounded(isJson ? prettyJson(data) : data, MAX_DETAIL, MAX_LINES)),
    el(
      "div",
      { class: "facts" },
      el("span", null, ...facts.flatMap((fact, at) => [at ? " · " : "", el("bdi", null, fact)])),
      el("button", { type: "button", class: "small", click: (event) => copy(data, event.target) }, "Copy data"),
      hasId ? resume : null,
    ),
  ];
}

/** Redraws all rows, after the filter has changed. */
function drawAll() {
  for (const entry of log.kept) entry.row = isShown(entry) ? (entry.row ?? rowOf(entry)) : null;
  $("rows").replaceChildren(...log.kept.flatMap((entry) => entry.row ?? []).reverse());
  showHeads();
  showCounts();
}

function clearLog() {
  Object.assign(log, { kept: [], pending: [], chars: 0, count: 0, skipped: 0 });
  Object.assign(raw, { text: "", isNew: true });
  drawAll();
  showRaw();
}

function setPaused(isPaused) {
  log.isPaused = isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("pause").textContent = isPaused ? "Resume" : "Pause";
  drawSoon();
}

/** Moves between rows with the arrow keys, so that a thousand rows are not a thousand tab stops. */
function moveInRows(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  const step = steps[event.key];
  if (!step || event.target.matches("pre")) return;
  event.preventDefault();
  const rows = [...$("rows").querySelectorAll("summary")];
  const at = rows.indexOf(document.activeElement) + step;
  rows[Math.min(Math.max(at, 0), rows.length - 1)]?.focus();
}

function announce() {
  if (log.count === announce.count) return;
  const newest = [...log.kept].reverse().find((entry) => entry.kind === "event");
  $("announced").textContent = newest ? `${plural(log.count, "event")}, newest: ${visible(newest.name)}, ${newest.data.slice(0, 80)}` : "";
  announce.count = log.count;
}

function setUpEvents() {
  $("pause").addEventListener("click", () => setPaused(!log.isPaused));
  $("clear").addEventListener("click", clearLog);
  $("filter").addEventListener("input", (event) => {
    log.filter = event.target.value.toLowerCase();
    drawAll();
  });
  $("expand").addEventListener("change", (event) => {
    for (const details of $("rows").querySelectorAll("details")) details.open = event.target.checked;
  });
  $("list").addEventListener("keydown", moveInRows);
  $("rows").addEventListener("animationend", (event) => event.target.classList.remove("fresh"));
  $("views").addEventListener("change", drawSoon);
  $("copy-raw").addEventListener("click", (event) => copy(raw.text, event.target));
  setInterval(announce, ANNOUNCE_EVERY);
  showCounts();
}
