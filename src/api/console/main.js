// Assembles the page: the subscription form and its state, deep links, the theme.

const THEME = "esker-theme";

/** Longer than the default heartbeat, in milliseconds. */
const MAX_SILENCE = 60_000;
/** After this time without a response, in milliseconds, a hint is shown, because the browser may be the cause. */
const MAX_CONNECTING = 5000;

/** Events that arrive within this time after a stream has resumed are counted as missed, in milliseconds. */
const CATCH_UP = 1000;

let stream = null;
/** When the stream broke and, once it is live again, the row that says so; null if it has not been broken. */
let outage = null;
let state = { kind: "stopped", since: 0 };

/** Reads the form: path, position, and the label of the source that its events are shown with. */
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

function validateListen({ isTopics, names }) {
  if (!isTopics) return true;
  const bad = names.find((name) => !TOPIC.test(name));
  const tooMany = names.length > 64 ? "At most 64 topics" : "";
  const missing = names.length ? tooMany : "Enter a topic";
  return check($("topics"), bad ? `${bad}: a topic is 8 to 64 letters and digits; separate topics with commas` : missing);
}

function subscribe() {
  const asked = readListenForm();
  if (!validateListen(asked)) return;
  stream?.stop();
  outage = null;
  setPaused(false);
  history.replaceState(null, "", linkTo(asked));
  const mine = new Stream(asked.path, asked.after, {
    state: (next) => mine === stream && showState(next, asked),
    event: (event) => mine === stream && takeEvent(event, asked),
    raw: (text) => mine === stream && addRaw(text),
  });
  stream = mine;
  mine.run();
}

function takeEvent(event, { isTopics, source }) {
  const erased = isTopics ? null : erasedName(event);
  if (erased !== null) {
    removeEvents(source, erased);
    addEntry({ kind: "erased", source, name: event.name, id: "", data: `All versions of ${visible(erased)} were erased.` });
    return;
  }
  if (!isOwn(event)) {
    countMissed();
    addEntry({ ...event, kind: "event", source });
    return;
  }
  addEntry({ kind: event.name, source, name: event.name, id: "", data: describeBrokerEvent(event) });
}

function describeBrokerEvent({ name, data }) {
  if (name === "expired") return "The token has expired, so the broker ended the stream.";
  try {
    const { after, oldest } = JSON.parse(data);
    const rest = oldest === null ? "nothing is retained" : `the oldest retained event is ${oldest}`;
    return `Events after ${after} are no longer available: ${rest}.`;
  } catch {
    return data;
  }
}

/** Adds a row that says that the stream is live again, and after how long. */
function noteResumed(notice) {
  Object.assign(outage, { endedAt: Date.now(), missed: 0 });
  const position = stream.position ? `after ${visible(stream.position)}` : "with new events";
  outage.text = `Live again after ${elapsed(outage.endedAt - outage.since)}, resumed ${position}`;
  outage.row = notice(`${outage.text}.`, "resumed");
}

/** Counts events that arrive right after the stream has resumed: they were published in the meantime. */
function countMissed() {
  if (!outage?.row || Date.now() - outage.endedAt > CATCH_UP) return;
  outage.missed += 1;
  amendEntry(outage.row, `${outage.text}; ${plural(outage.missed, "event")} followed immediately.`);
}

function showState(next, asked) {
  const before = state.kind;
  state = { ...next, since: Date.now() };
  const position = stream.position ? ` · Last-Event-ID: ${stream.position}` : "";
  if (next.kind === "connecting") addRaw(`▸ GET /${asked.path}${position}\n`);
  const notice = (text, name = next.kind) => addEntry({ kind: "notice", source: asked.source, name, id: "", data: text });
  if (next.kind === "waiting" && before === "live") {
    outage = { since: Date.now(), row: null };
    notice(`${next.why} ${stream.position ? `It will resume after ${stream.position}` : "It will resume with new events"}.`);
  }
  if (next.kind === "live" && outage && !outage.row) noteResumed(notice);
  // Problems with a token are shown above, with a link to the Tokens tab.
  if (next.kind === "refused" && !next.refusal.isOfToken) notice(`${next.refusal.status} ${next.refusal.message}`);
  tickState();
}

/** Shows the state; called every half second for the countdown, which is not announced to screen readers. */
function tickState() {
  const { kind, since, until, why, refusal } = state;
  const isSlow = Date.now() - since > MAX_CONNECTING;
  const isSilent = Date.now() - stream?.heardAt > MAX_SILENCE;
  const words = {
    connecting: ["Connecting…", isSlow ? ` No response yet. ${CROWDED}` : ""],
    live: ["Live", isSilent ? `, silent since ${dayAndTime(stream.heardAt).slice(0, -4)}` : ""],
    waiting: [`Waiting. ${why}`],
    refused: refusal ? ["Rejected: ", ...refusal.shown()] : [],
    stopped: ["Not subscribed"],
  }[kind];
  const place = $("state");
  $("countdown").textContent = kind === "waiting" ? `${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s` : "";
  const text = words.map((word) => word.textContent ?? word).join("");
  if (place.dataset.text !== text) place.replaceChildren(el("span", null, ...words));
  Object.assign(place.dataset, { text, kind });
  $("position").textContent = stream?.position ? `last id ${visible(stream.position)}` : "";
  $("advice").textContent = {
    live: "Subscribed. Press Publish to see the event here.",
    stopped: "Press Subscribe above, then Publish, to see the event here.",
  }[kind] ?? "";
  const isOpen = !["stopped", "refused"].includes(kind);
  for (const id of ["stop", "cut"]) $(id).hidden = !isOpen;
  $("cut").textContent = kind === "waiting" ? "Reconnect now" : "Disconnect";
}

/** Shows the request that the form describes, and the fields that apply to it. */
function showRequest() {
  const { isTopics, path, after } = readListenForm();
  $("listen").elements.after.placeholder = isTopics ? "live; 0: all" : "newest of each";
  for (const [id, isFor] of [["for-topics", isTopics], ["for-names", !isTopics], ["for-prime", isTopics]]) $(id).hidden = !isFor;
  const position = after ? { "Last-Event-ID": after } : {};
  $("request").textContent = `GET /${path}`;
  $("request").dataset.command = curl(urlOf(path), fieldsFor("subscriber", position));
}

/** Returns a link to this subscription, such as #topics=greeting or #events=user. */
function linkTo({ isTopics, names, after }) {
  const list = names.map(encodeURIComponent).join(",");
  return `#${isTopics ? "topics" : "events"}${list && `=${list}`}${after && `&after=${encodeURIComponent(after)}`}`;
}

/** Applies the parameters in the URL's fragment: topics, events, after, audit, tab. */
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
  if (["publish", "insert", "audit", "topics", "tokens"].includes(link.get("tab"))) openTab(`tab-${link.get("tab")}`);
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
  listenTo = (topic) => {
    form.elements.kind.value = "topics";
    form.elements.topics.value = topic;
    form.elements.after.value = "";
    check($("topics"), "");
    showRequest();
    subscribe();
    // In a single column, the stream may be out of view.
    $("stream").scrollIntoView({ block: "nearest" });
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
  submitOnCtrlEnter(form);
}
for (const input of document.querySelectorAll("input, textarea")) Object.assign(input, { spellcheck: false, autocapitalize: "none" });
$("token-state").addEventListener("click", goToTokens);
setUpTokens();
setUpEvents();
setUpForms();
setUpAudit();
setUpTopics();
setUpListen();
setUpCharts();
followLink();
addEventListener("hashchange", followLink);
