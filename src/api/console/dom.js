// What all parts of the page build with: elements, tabs, copying. Data becomes text, never markup.

const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** An element, of HTML or a drawing; attributes that are null are left out, functions become listeners, children become text or stay nodes. */
function el(tag, attributes, ...children) {
  const element = tag === "svg" || tag === "path" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** Shows one panel of a list of tabs; arrow keys go from tab to tab, as people who can't see it expect. */
function setUpTabs(list) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const show = (chosen) => {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    list.dispatchEvent(new Event("change"));
  };
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  list.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const at = tabs.indexOf(document.activeElement) + step;
    const next = Number.isFinite(at) ? tabs[(at + tabs.length) % tabs.length] : tabs.at(step < 0 ? 0 : -1);
    next.focus();
    show(next);
  });
  for (const tab of tabs) tab.addEventListener("click", () => show(tab));
  show(tabs.find((tab) => tab.getAttribute("aria-selected") === "true"));
}

/** Shows the tab with this id, as if it had been pressed. */
function openTab(id) {
  $(id).click();
}

/** Copies, and says so on the button. The clipboard is only there on https and localhost; the old way works elsewhere. */
async function copy(text, button) {
  const old = button.dataset.label ?? button.textContent;
  button.dataset.label = old;
  button.textContent = (await writeClipboard(text)) ? "Copied" : "Not allowed";
  setTimeout(() => (button.textContent = old), 1500);
}

async function writeClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return isDone;
  }
}

/** Ctrl+Enter (or Cmd) anywhere in a form sends it. */
function sendByKeys(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit();
  });
}

/** Shows what became of something under the form: a list of texts and elements, good or bad; no list: nothing yet. */
function tell(place, isGood, ...parts) {
  place.className = isGood ? "answer good" : "answer bad";
  place.replaceChildren(...parts);
}

/** Says what is wrong with a field, in the browser's own way; empty text: nothing. Answers whether all is well. */
function check(input, complaint) {
  input.setCustomValidity(complaint);
  input.setAttribute("aria-invalid", String(complaint !== ""));
  if (complaint) input.reportValidity();
  return complaint === "";
}

/** What the browser may refuse to keep is not kept. */
function storage(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}
