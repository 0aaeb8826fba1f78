// The broker's topics, the busiest first, with their rates. The list is requested every two seconds while it is visible; after
// a rejection it is not requested again until something has changed. Clicking a topic subscribes to it.

/** Milliseconds from one list to the next, and how many times longer than reading a list that must be. */
const [LIST_INTERVAL, LIST_SHARE] = [2000, 4];
/** Topics on a page, and the maximum number of pages of a list. */
const [LIST_PAGE, MAX_LIST_PAGES] = [1000, 10];
/** Maximum number of rows. */
const MAX_TOPICS = 100;
/** Time limit for a page, in seconds. */
const LIST_TIMEOUT = 5;

/**
 * The latest list. `all` has the topics with their rates by name; a topic's `at` is when its page arrived, in seconds. `rows`
 * has the rows by name.
 */
const topicList = { all: new Map(), rows: new Map(), isComplete: true, timer: 0, isAsking: false, mustRepeat: false, backOff: LIST_INTERVAL };

/** Subscribes to a topic; set by the subscription form. */
let listenTo = () => {};

const isListVisible = () => !document.hidden && !$("topics-panel").hidden;

/** Returns a topic's events per second since the list before; null if that is unknown. */
function rateSince(before, topic) {
  // A topic that was closed in the meantime counts from 0 again.
  const isSame = before && before.published <= topic.published;
  return before ? (topic.published - (isSame ? before.published : 0)) / (topic.at - before.at) : null;
}

/** Reads all pages, up to a bound. */
async function readTopics() {
  const all = new Map();
  let query = `?limit=${LIST_PAGE}`;
  for (let page = 0; page < MAX_LIST_PAGES && query !== null; page += 1) {
    const response = await askWhole("publisher", `topics${query}`, LIST_TIMEOUT);
    // The chart of bytes excludes the page's own requests.
    poll.responseBytes += sizeOf(response);
    const at = performance.now() / 1000;
    for (const topic of JSON.parse(response.text).topics) all.set(topic.topic, { ...topic, at });
    query = nextQuery(response.headers);
  }
  return { all, isComplete: query === null };
}

async function askTopics() {
  if (!isListVisible()) return;
  // The running request may be rejected because of what has changed in the meantime, so ask again after it.
  if (topicList.isAsking) return void (topicList.mustRepeat = true);
  Object.assign(topicList, { isAsking: true, mustRepeat: false });
  const begin = performance.now();
  try {
    takeTopics(await readTopics());
    topicList.backOff = LIST_INTERVAL;
    scheduleTopics(Math.max(LIST_INTERVAL, LIST_SHARE * (performance.now() - begin)));
  } catch (error) {
    refuseTopics(error);
  } finally {
    topicList.isAsking = false;
    if (topicList.mustRepeat) scheduleTopics(0);
  }
}

function scheduleTopics(millis) {
  clearTimeout(topicList.timer);
  topicList.timer = setTimeout(askTopics, millis);
}

function takeTopics({ all, isComplete }) {
  for (const topic of all.values()) topic.rate = rateSince(topicList.all.get(topic.topic), topic);
  Object.assign(topicList, { all, isComplete });
  showResult($("topics-result"), true);
  showTopics();
}

/** Shows why there is no list. What was shown before is out of date, so it is removed. */
function refuseTopics(error) {
  const isFinal = error instanceof Refusal && error.isFinal && error.status < 500;
  Object.assign(topicList, { all: new Map(), isComplete: true });
  showTopics();
  $("topics-count").textContent = "";
  if (!(error instanceof Refusal)) return showResult($("topics-result"), false, "The response of /topics is not valid.");
  const moved = "There is no /topics at this address: a broker started with --admin serves the list there.";
  if (isFinal) return showResult($("topics-result"), false, ...(error.status === 404 ? [moved] : error.shown()));
  topicList.backOff = Math.min(topicList.backOff * 2, MAX_BACK_OFF);
  showResult($("topics-result"), false, ...error.shown(), ` Trying again in ${topicList.backOff / 1000} s.`);
  scheduleTopics(topicList.backOff);
}

/** Orders topics: the highest rate first, then the most subscribers, the most retained events, the name. */
function byActivity(a, b) {
  return (b.rate ?? 0) - (a.rate ?? 0) || b.subscribers - a.subscribers || b.events - a.events || (a.topic < b.topic ? -1 : 1);
}

function showTopics() {
  const part = $("topics-filter").value.trim().toLowerCase();
  const found = [...topicList.all.values()].filter(({ topic }) => topic.includes(part)).sort(byActivity);
  const shown = arrange(found).slice(0, MAX_TOPICS);
  const rows = new Map(shown.map((topic) => [topic.topic, topicList.rows.get(topic.topic) ?? topicRow(topic.topic)]));
  shown.forEach((topic) => fillTopicRow(rows.get(topic.topic), topic));
  topicList.rows = rows;
  placeRows($("topic-rows"), [...rows.values()]);
  $("topic-table").hidden = shown.length === 0;
  $("topics-count").textContent = describeTopics(found.length, shown.length, part);
}

/** Keeps the order while the user points at the list or has moved into it, so that no row moves away before it is chosen. */
function arrange(found) {
  const body = $("topic-rows");
  if (!body.matches(":hover") && !body.contains(document.activeElement)) return found;
  const known = [...topicList.rows.keys()];
  const place = new Map(known.map((name, at) => [name, at]));
  const placeOf = ({ topic }) => place.get(topic) ?? known.length;
  return found.sort((a, b) => placeOf(a) - placeOf(b));
}

/** Replaces rows only if they differ: one that is moved would lose the focus. */
function placeRows(body, rows) {
  const kept = new Set(rows);
  for (const row of [...body.children]) if (!kept.has(row)) row.remove();
  rows.forEach((row, at) => body.children[at] !== row && body.insertBefore(row, body.children[at] ?? null));
}

function topicRow(name) {
  const choose = () => listenTo(name);
  const button = el("button", { type: "button", class: "link", title: name, "aria-label": `Subscribe to ${name}`, click: choose }, name);
  const cells = Array.from({ length: 3 }, () => el("td"));
  return el("tr", null, el("th", { scope: "row" }, button), ...cells);
}

function fillTopicRow(row, { rate, subscribers, events }) {
  const texts = [rate === null ? "–" : quantity(rate), quantity(subscribers), quantity(events)];
  texts.forEach((text, at) => {
    const cell = row.children[at + 1];
    if (cell.textContent !== text) cell.textContent = text;
  });
  row.classList.toggle("busy", rate > 0);
}

function describeTopics(found, shown, part) {
  if (topicList.all.size === 0) return "No topic has a subscriber or a retained event.";
  const matching = part ? plural(found, "matching topic") : plural(found, "topic");
  const more = topicList.isComplete ? "" : "; there are more topics, which are not listed";
  return `${shown < found ? `The ${shown} busiest of ` : ""}${matching}${more}.`;
}

function setUpTopics() {
  $("topics-filter").addEventListener("input", showTopics);
  $("tools").addEventListener("change", () => isListVisible() && scheduleTopics(0));
  document.addEventListener("visibilitychange", () => isListVisible() && scheduleTopics(0));
  onTokenChange.push((role) => role === "publisher" && scheduleTopics(200));
}
