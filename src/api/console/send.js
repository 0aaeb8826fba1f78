// The publish and insert forms, the broker's responses, and the same requests as curl commands.

const EXAMPLES = { text: "hello", json: '{"temperature": 21.5}', sse: "event: greeting\ndata: hello" };
/** Time limit for a response, in seconds. */
const SEND_TIMEOUT = 15;
const TYPES = { text: "text/plain; charset=utf-8", json: "application/json", sse: "text/event-stream" };

/** Returns the path, headers and body of the request that the publish form describes. */
function publishRequest() {
  const form = $("publish").elements;
  const kind = form.kind.value;
  const query = new URLSearchParams();
  if (kind !== "sse" && form.event.value) query.set("event", form.event.value);
  if (kind !== "sse" && form.id.value) query.set("id", form.id.value);
  const path = `publish/${encodeURIComponent(form.topic.value.trim())}${query.size ? `?${query}` : ""}`;
  return { path, headers: { "Content-Type": TYPES[kind] }, body: form.data.value };
}

function insertRequest() {
  const form = $("insert").elements;
  const body = `{"event":${JSON.stringify(form.event.value)},"data":${form.data.value.trim()}}`;
  return { path: "insert", headers: { "Content-Type": "application/json" }, body };
}

function validateTopic(input) {
  const name = input.value.trim();
  return check(input, TOPIC.test(name) ? "" : `A topic is 8 to 64 letters and digits; this has ${plural(name.length, "character")}`);
}

function validateJson(input) {
  const complaint = jsonComplaint(input.value);
  return check(input, complaint && `Not valid JSON: ${complaint}`);
}

/** Sends a form's request and shows the response using `show`; one request at a time per form. */
async function send(form, request, show) {
  const [button, place] = [form.querySelector(".primary"), form.querySelector(".result")];
  if (button.disabled) return;
  const hadFocus = document.activeElement === button;
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    const { path, headers, body } = request;
    const { text } = await askWhole("publisher", path, SEND_TIMEOUT, { method: "POST", headers, body });
    showResult(place, true, ...show(JSON.parse(text)));
  } catch (error) {
    showFailure(place, error);
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
    // A disabled button loses the focus.
    if (hadFocus && [button, document.body].includes(document.activeElement)) button.focus();
  }
}

function shownPublish({ id, events, subscribers, duplicate }) {
  if (duplicate) return [el("b", null, "200"), ` duplicate: the topic already retains this id, as ${visible(id)}`];
  const hint = subscribers ? "" : ". To receive it, subscribe with 0 in “Resume after”";
  return [el("b", null, "200"), " id ", el("code", null, visible(id)), ` · ${plural(events, "event")} · reached ${plural(subscribers, "subscriber")}${hint}`];
}

function shownInsert({ event, id, key }) {
  const look = el("button", { type: "button", class: "link", click: () => openAudit(event) }, "show versions");
  return [el("b", null, "200"), " stored as ", el("code", null, visible(key)), ` at ${clockTime(timeOfId(id) ?? Date.now())} · `, look];
}

function submitPublish(event) {
  event.preventDefault();
  const form = $("publish").elements;
  showResult($("publish").querySelector(".result"), true);
  if (!validateTopic(form.topic) || (form.kind.value === "json" && !validateJson(form.data))) return;
  send($("publish"), publishRequest(), shownPublish);
}

function submitInsert(event) {
  event.preventDefault();
  const form = $("insert").elements;
  showResult($("insert").querySelector(".result"), true);
  if (!check(form.event, form.event.value ? "" : "Enter a name") || !validateJson(form.data)) return;
  send($("insert"), insertRequest(), shownInsert);
}

function showCurl(form, { path, headers, body }) {
  form.querySelector(".command").textContent = curl(urlOf(path), fieldsFor("publisher", headers), body);
}

function showCommands() {
  showCurl($("publish"), publishRequest());
  showCurl($("insert"), insertRequest());
}

/** Replaces an unchanged example with the one for the new kind of content. */
function changeKind() {
  const form = $("publish").elements;
  const kind = form.kind.value;
  if (form.data.value === "" || Object.values(EXAMPLES).includes(form.data.value)) form.data.value = EXAMPLES[kind];
  form.event.disabled = form.id.disabled = kind === "sse";
  $("sse-hint").hidden = kind !== "sse";
}

function setUpForms() {
  $("publish").addEventListener("submit", submitPublish);
  $("insert").addEventListener("submit", submitInsert);
  for (const radio of $("publish").elements.kind) radio.addEventListener("change", changeKind);
  for (const form of [$("publish"), $("insert")]) {
    form.addEventListener("input", (event) => {
      for (const input of form.querySelectorAll("input, textarea")) input.setCustomValidity("");
      event.target.removeAttribute("aria-invalid");
      showCommands();
    });
    form.querySelector(".copy").addEventListener("click", (event) => copy(form.querySelector(".command").textContent, event.target));
  }
  onTokenChange.push(showCommands);
  changeKind();
  showCommands();
}
