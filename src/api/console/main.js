// Puts the page together: the subscription's form and state, links into the page, the theme.

const THEME = "esker-theme";

/** Longer than a broker is silent unless its heartbeat was made slower: in milliseconds. */
const MAX_SILENCE = 60_000;
/** A stream that is not answered for so long is told of, for the page may be to blame. */
const MAX_CONNECTING = 5000;

/** Events that come so soon after a stream has resumed are counted as missed: in milliseconds. */
const CATCH_UP = 1000;

let stream = null;
/** Since when the stream has been broken, and, once it is live again, the row that says so; null if it was not broken. */
let outage = null;
let state = { kind: "stopped", since: 0 };

/** What the form asks for: path, position, and the name that its events go by; null if it asks for nonsense. */
function readListenForm() {
  const form = $("listen").elements;
  const isTopics = form.kind.value === "topics";
  const names = (isTopics ? form.topics : form.names).value.split(/[\s,]+/).filter(Boolean);
  const after = form.after.value.trim();
  if (isTopics) {
    const prime = form.prime.checked ? "?prime" : "";
    return { isTopics, names, after, path: `subscribe/${names.map(encodeURIComponent).join(",")}${prime}`, source: names.join(",") };
  }
  const query = names.map((name) => `event=${encodeURIComponent(name)}`).join("&");
  return { isTopics, names, after, path: `events${query && `?${query}`}`, source: names.length ? `records ${names.join(",")}` : "records" };
}

function complainOfListen({ isTopics, names }) {
  if (!isTopics) return true;
  const bad = names.find((name) => !TOPIC.test(name));
  const tooMany = names.length > 64 ? "At most 64 topics" : "";
  const missing = names.length ? tooMany : "Give a topic";
  return check($("topics"), bad ? `${bad}: a topic is 8 to 64 letters and digits; separate topics with commas` : missing);
}

function subscribe() {
  const asked = readListenForm();
  if (!complainOfListen(asked)) return;
  stream?.stop();
  outage = null;
  setPaused(false);
  history.replaceState(null, "", linkTo(asked));
  const mine = new Stream(asked.path, asked.after, {
    state: (next) => mine === stream && showState(next, asked),
    event: (event) => mine === stream && takeEvent(event, asked.source),
    raw: (text) => mine === stream && addRaw(text),
  });
  stream = mine;
  mine.run();
}

function takeEvent(event, source) {
  if (!isOwn(event)) {
    countMissed();
    addEntry({ ...event, kind: "event", source });
    return;
  }
  addEntry({ kind: event.name, source, name: event.name, id: "", data: ownWords(event) });
}

function ownWords({ name, data }) {
  if (name === "expired") return "The token has expired, so the broker ended the stream.";
  try {
    const { after, oldest } = JSON.parse(data);
    const rest = oldest === null ? "nothing is retained" : `what is retained begins with ${oldest}`;
    return `Events after ${after} are gone: ${rest}.`;
  } catch {
    return data;
  }
}

/** Says in a row of its own that the stream is live again, and after how long. */
function tellResumed(notice) {
  Object.assign(outage, { endedAt: Date.now(), missed: 0 });
  const position = stream.position ? `after ${visible(stream.position)}` : "with new events";
  outage.text = `Live again after ${laps(outage.endedAt - outage.since)}, resumed ${position}`;
  outage.row = notice(`${outage.text}.`, "resumed");
}

/** What comes at once after the stream has resumed was published meanwhile. */
function countMissed() {
  if (!outage?.row || Date.now() - outage.endedAt > CATCH_UP) return;
  outage.missed += 1;
  amendEntry(outage.row, `${outage.text}; ${plural(outage.missed, "event")} followed at once.`);
}

function showState(next, asked) {
  const before = state.kind;
  state = { ...next, since: Date.now() };
  const position = stream.position ? ` · Last-Event-ID: ${stream.position}` : "";
  if (next.kind === "connecting") addRaw(`▸ GET /${asked.path}${position}\n`);
  const notice = (text, name = next.kind) => addEntry({ kind: "notice", source: asked.source, name, id: "", data: text });
  if (next.kind === "waiting" && before === "live") {
    outage = { since: Date.now(), row: null };
    notice(`${next.why} ${stream.position ? `It resumes after ${stream.position}` : "It resumes with new events"}.`);
  }
  if (next.kind === "live" && outage && !outage.row) tellResumed(notice);
  // What is said of a token stands above, with the way to it.
  if (next.kind === "refused" && !next.refusal.isOfToken) notice(`${next.refusal.status} ${next.refusal.message}`);
  tickState();
}

/** The state in words; called every half second for the countdown, which is not spoken. */
function tickState() {
  const { kind, since, until, why, refusal } = state;
  const isSlow = Date.now() - since > MAX_CONNECTING;
  const isSilent = Date.now() - stream?.heardAt > MAX_SILENCE;
  const words = {
    connecting: ["Connecting…", isSlow ? ` No answer yet. ${CROWDED}` : ""],
    live: ["Live", isSilent ? `, silent since ${dayAndTime(stream.heardAt).slice(0, -4)}` : ""],
    waiting: [`Waiting. ${why}`],
    refused: refusal ? ["Refused: ", ...refusal.shown()] : [],
    stopped: ["Not subscribed"],
  }[kind];
  const place = $("state");
  $("countdown").textContent = kind === "waiting" ? `${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s` : "";
  const text = words.map((word) => word.textContent ?? word).join("");
  if (place.dataset.text !== text) place.replaceChildren(el("span", null, ...words));
  Object.assign(place.dataset, { text, kind });
  $("position").textContent = stream?.position ? `last id ${visible(stream.position)}` : "";
  $("advice").textContent = {
    live: "Subscribed. Press Publish, and the event appears here.",
    stopped: "Press Subscribe above, then Publish: the event appears here.",
  }[kind] ?? "";
  const isOpen = !["stopped", "refused"].includes(kind);
  for (const id of ["stop", "cut"]) $(id).hidden = !isOpen;
  $("cut").textContent = kind === "waiting" ? "Connect now" : "Cut";
}

/** Shows the request that the form stands for, and what of it is to be seen. */
function showRequest() {
  const { isTopics, path, after } = readListenForm();
  $("listen").elements.after.placeholder = isTopics ? "live; 0: all" : "newest of each";
  for (const [id, isFor] of [["for-topics", isTopics], ["for-names", !isTopics], ["for-prime", isTopics]]) $(id).hidden = !isFor;
  const position = after ? { "Last-Event-ID": after } : {};
  $("request").textContent = `GET /${path}`;
  $("request").dataset.command = curl(urlOf(path), fieldsFor("subscriber", position));
}

/** A link to this subscription, such as #topics=greeting or #events=user. */
function linkTo({ isTopics, names, after }) {
  const list = names.map(encodeURIComponent).join(",");
  return `#${isTopics ? "topics" : "events"}${list && `=${list}`}${after && `&after=${encodeURIComponent(after)}`}`;
}

/** Does what the link asks for: topics, events, after, audit, tab. */
function followLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  const form = $("listen").elements;
  const isTopics = link.has("topics");
  if (isTopics || link.has("events")) {
    form.kind.value = isTopics ? "topics" : "events";
    form[isTopics ? "topics" : "names"].value = link.get(isTopics ? "topics" : "events");
    form.after.value = link.get("after") ?? "";
    const [first] = isTopics ? readListenForm().names : [];
    if (TOPIC.test(first ?? "")) $("publish").elements.topic.value = first;
    showCommands();
    showRequest();
    subscribe();
  }
  if (link.get("audit")) openAudit(link.get("audit"));
  if (["publish", "insert", "audit", "tokens"].includes(link.get("tab"))) openTab(`tab-${link.get("tab")}`);
}

function setUpListen() {
  const form = $("listen");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    subscribe();
  });
  form.addEventListener("input", () => {
    check($("topics"), "");
    showRequest();
  });
  $("stop").addEventListener("click", () => {
    stream.stop();
    form.querySelector(".primary").focus();
  });
  $("cut").addEventListener("click", () => (state.kind === "waiting" ? stream.wake() : stream.cut()));
  $("copy-request").addEventListener("click", (event) => copy($("request").dataset.command, event.target));
  resumeAfter = (id) => {
    form.elements.after.value = id;
    showRequest();
    subscribe();
  };
  onTokenChange.push(showRequest);
  setInterval(tickState, 500);
  tickState();
  showRequest();
}

function setUpTheme() {
  const kept = storage("localStorage");
  const show = (theme) => (document.documentElement.dataset.theme = theme);
  $("theme").value = kept?.getItem(THEME) ?? "";
  show($("theme").value);
  $("theme").addEventListener("change", ({ target }) => {
    kept?.setItem(THEME, target.value);
    show(target.value);
  });
}

setUpTheme();
$("where").textContent = BASE.host + BASE.pathname.replace(/\/$/, "");
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("stream").focus();
});
document.querySelectorAll("[role=tablist]").forEach(setUpTabs);
for (const form of document.forms) {
  Object.assign(form, { noValidate: true, autocomplete: "off" });
  sendByKeys(form);
}
for (const input of document.querySelectorAll("input, textarea")) Object.assign(input, { spellcheck: false, autocapitalize: "none" });
$("token-state").addEventListener("click", goToTokens);
setUpTokens();
setUpEvents();
setUpForms();
setUpAudit();
setUpListen();
setUpCharts();
followLink();
addEventListener("hashchange", followLink);
