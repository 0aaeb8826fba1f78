// The broker's statistics, requested once a second while the page is visible, and drawn as line charts. After a rejection
// they are not requested again until something has changed.

/** The maximum and minimum number of points in a chart, one per second; a new line is stretched to fill the chart. */
const [POINTS, FEWEST_POINTS] = [120, 10];
/** Latency is computed over this many seconds, because there may be no deliveries in a single one. */
const LATENCY_WINDOW = 10;
/** After this many seconds without a response, the lines start again. */
const MAX_PAUSE = 5;
/** Time limit for a response, in seconds. */
const STATS_TIMEOUT = 5;
const [WIDTH, HEIGHT] = [240, 48];
const MAX_BACK_OFF = 30_000;

const CHARTS = [
  { id: "subscribers", title: "Subscribers", lines: [(now) => now.stats.subscribers], show: quantity },
  { id: "events", title: "Events/s", lines: [(now, before) => rate("events_published", now, before)], show: quantity },
  { id: "deliveries", title: "Deliveries/s", lines: [(now, before) => rate("events_delivered", now, before)], show: quantity },
  { id: "bytes", title: "Bytes/s", lines: [(now, before) => rate("bytes_sent", now, before, now.ownBytes)], show: bytes },
  { id: "latency", title: "Latency p50 · p99", lines: [(now) => quantileNow(now, 0.5), (now) => quantileNow(now, 0.99)], show: latency },
];

/** `responseBytes` is the size of the last response, which the next one includes in its count of bytes. */
const poll = { responseBytes: 0, samples: [], timer: 0, isAsking: false, mustRepeat: false, backOff: 1000 };

/** Returns the increase of a counter per second, without the part caused by this page (`own`). */
function rate(name, now, before, own = 0) {
  return before ? Math.max(0, (now.stats[name] - before.stats[name] - own) / (now.seconds - before.seconds)) : null;
}

/** Returns the size of a response in HTTP/1.1. */
function sizeOf({ text, headers }) {
  const fields = [...headers].reduce((sum, [name, value]) => sum + name.length + value.length + ": \r\n".length, 0);
  return "HTTP/1.1 200 OK\r\n\r\n".length + fields + new TextEncoder().encode(text).length;
}

/** Returns a quantile of the latest deliveries, from the increase of the cumulative buckets. */
function quantileNow(now, share) {
  const at = poll.samples.indexOf(now);
  const before = poll.samples[Math.max(0, at - LATENCY_WINDOW)];
  const [late, early] = [now.stats.delivery_latency_seconds, before?.stats.delivery_latency_seconds];
  if (!late || !early || late.count <= early.count) return null;
  const gained = late.buckets.map(([le, count], index) => [le, count - (early.buckets[index]?.[1] ?? 0)]);
  return quantile(gained, late.count - early.count, share);
}

/** Interpolates linearly within a bucket, as Prometheus does. */
function quantile(buckets, count, share) {
  const rank = share * count;
  let [floor, below] = [0, 0];
  for (const [le, upTo] of buckets) {
    if (upTo >= rank) return floor + ((le - floor) * (rank - below)) / Math.max(1, upTo - below);
    [floor, below] = [le, upTo];
  }
  return floor;
}

async function askStats() {
  if (document.hidden) return;
  // The running request may be rejected because of what has changed in the meantime, so ask again after it.
  if (poll.isAsking) return void (poll.mustRepeat = true);
  Object.assign(poll, { isAsking: true, mustRepeat: false });
  try {
    const response = await askWhole("publisher", "stats", STATS_TIMEOUT);
    takeStats({ seconds: performance.now() / 1000, stats: JSON.parse(response.text), ownBytes: poll.responseBytes });
    poll.responseBytes = sizeOf(response);
    poll.backOff = 1000;
    noteStats();
    schedule(1000);
  } catch (error) {
    refuseStats(error);
  } finally {
    poll.isAsking = false;
    if (poll.mustRepeat) schedule(0);
  }
}

function schedule(millis) {
  clearTimeout(poll.timer);
  poll.timer = setTimeout(askStats, millis);
}

/** Adds a sample. After a restart of the broker or a pause, the lines start again. */
function takeStats(sample) {
  $("figures").hidden = false;
  const before = poll.samples.at(-1);
  const isNew = before && sample.stats.uptime_seconds < before.stats.uptime_seconds;
  if (isNew || sample.seconds - before?.seconds > MAX_PAUSE) poll.samples = [];
  poll.samples.push(sample);
  poll.samples.splice(0, poll.samples.length - POINTS - LATENCY_WINDOW);
  $("about").textContent = `${sample.stats.version ?? ""} · up ${span(sample.stats.uptime_seconds)}`;
  showEngine(sample.stats.engine);
  CHARTS.forEach(drawChart);
}

const ENGINE_STATES = {
  ready: "ready",
  starting: "starting: its log is being read",
  lost: "lost: publishes are rejected",
  standstill: "stands still: events of other brokers don’t arrive",
  unreadable: "unreadable: another broker runs a newer version",
  closed: "closed",
};

/** Shows the state of the engine that brokers share, if there is one, and how far this broker is behind. */
function showEngine(engine) {
  const place = $("engine");
  place.hidden = !engine;
  if (!engine) return;
  place.textContent = `engine ${ENGINE_STATES[engine.state] ?? engine.state} · lag ${latency(engine.lag_seconds)}`;
  place.title = [engine.server, engine.address, engine.reason].filter(Boolean).join(" · ");
  place.classList.toggle("bad", engine.state !== "ready");
}

function refuseStats(error) {
  if (!(error instanceof Refusal)) return noteStats("The response of /stats is not valid.");
  if (!error.isFinal || error.status >= 500) {
    poll.backOff = Math.min(poll.backOff * 2, MAX_BACK_OFF);
    noteStats(`${error.message} Trying again in ${poll.backOff / 1000} s.`);
    return schedule(poll.backOff);
  }
  // Empty charts would look as if nothing happened.
  $("figures").hidden = error.status === 404;
  const why = {
    401: "Statistics require a publisher token for the name stats. ",
    403: "The publisher token doesn’t allow the name stats: ",
    404: "There is no /stats at this address: a broker started with --admin serves its statistics there, as /stats and /metrics.",
  };
  const lacksToken = error.status === 401 && !tokens.publisher;
  const details = lacksToken ? [tokensLink()] : error.shown();
  const prefix = error.status > 0 ? "/stats was rejected: " : "";
  noteStats(why[error.status] ?? prefix, ...(error.status === 404 ? [] : details));
}

/** Shows why there are no statistics, with a button to try again; without a reason, hides the note. */
function noteStats(...parts) {
  const place = $("stats-note");
  place.hidden = parts.length === 0;
  if (parts.length) place.replaceChildren(el("span", null, ...parts), el("button", { type: "button", class: "small", click: askStats }, "Try again"));
}

function drawChart({ id, title, lines, show }) {
  const shown = poll.samples.slice(-POINTS);
  const offset = poll.samples.length - shown.length;
  const series = lines.map((line) => shown.map((sample, at) => line(sample, poll.samples[offset + at - 1])));
  const highest = Math.max(...series.flat().filter((value) => value !== null), 0);
  const now = series.map((points) => points.at(-1) ?? null);
  const places = Math.max(FEWEST_POINTS, shown.length);
  const values = now.some((point) => point !== null) ? now.map((point) => (point === null ? "–" : show(point))) : ["–"];
  const figure = $(`chart-${id}`);
  const toned = values.map((value, at) => el("span", { class: `tone${at + values.length}` }, value));
  figure.querySelector(".now").replaceChildren(...toned.flatMap((value, at) => (at ? [" · ", value] : [value])));
  figure.querySelector(".since").textContent = places === POINTS ? `${POINTS / 60} min ago` : `${places} s ago`;
  const isEmpty = series.flat().every((value) => value === null);
  figure.querySelector(".top").textContent = highest ? `max ${show(highest)}` : isEmpty ? emptyCaption(id) : "";
  figure.querySelector("svg").setAttribute("aria-label", `${title}: now ${values.join(" · ")}, at most ${show(highest)} in the last ${span(shown.length)}`);
  figure.querySelectorAll(".line").forEach((path, at) => path.setAttribute("d", pathOf(series[at], highest, places)));
  const area = pathOf(series.at(-1), highest, places);
  figure.querySelector(".area").setAttribute("d", area && !area.includes("M", 1) ? `${area}V${HEIGHT}H${firstX(series.at(-1), places)}Z` : "");
}

/** The caption of an empty chart: a rate needs two responses, a latency a delivered event. */
const emptyCaption = (id) => (id === "latency" ? "nothing delivered yet" : "collecting …");

/** Returns the x coordinate of a point by its index, in a chart that may have room for more points. */
const xOf = (at, count, places) => ((places - count + at) * WIDTH) / (places - 1);
const firstX = (points, places) => xOf(points.findIndex((point) => point !== null), points.length, places).toFixed(1);

/** Returns a path with gaps where there is no value. */
function pathOf(points, highest, places) {
  let [path, isOpen] = ["", false];
  points.forEach((point, at) => {
    if (point !== null) {
      const y = HEIGHT - 2 - (highest ? (point / highest) * (HEIGHT - 4) : 0);
      path += `${isOpen ? "L" : "M"}${xOf(at, points.length, places).toFixed(1)} ${y.toFixed(1)}${isOpen ? "" : "h0"}`;
    }
    isOpen = point !== null;
  });
  return path;
}

function figureOf({ id, title, lines }) {
  const paths = lines.map((_, at) => el("path", { class: `line tone${at + lines.length}` }));
  const frame = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title };
  const drawing = el("svg", frame, el("path", { class: "area" }), ...paths);
  const caption = el("figcaption", null, el("span", null, title), el("b", { class: "now" }, "–"));
  const hint = (name, text) => el("span", { class: name }, text);
  const hints = el("div", { class: "hints", "aria-hidden": "true" }, hint("since", ""), hint("top", "collecting …"), hint("end", "now"));
  return el("figure", { id: `chart-${id}` }, caption, drawing, hints);
}

function setUpCharts() {
  $("figures").append(...CHARTS.map(figureOf));
  document.addEventListener("visibilitychange", () => document.hidden || schedule(0));
  onTokenChange.push((role) => role === "publisher" && schedule(200));
  askStats();
}
