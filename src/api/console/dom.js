// Building blocks for all parts of the page: elements, tabs, copying. Data is inserted as text, never as markup.

const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** Creates an HTML or SVG element. Null attributes are left out, functions become event listeners, strings become text nodes. */
function el(tag, attributes, ...children) {
  const element = tag === "svg" || tag === "path" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** Sets up a list of tabs, with the arrow keys that screen-reader users expect. */
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

/** Shows the tab with this id, as if it had been clicked. */
function openTab(id) {
  $(id).click();
}

/** Copies a text and confirms it on the button. The Clipboard API needs https or localhost; elsewhere `execCommand` is used. */
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

/** Lets Ctrl+Enter (or Cmd+Enter) submit the form. */
function submitOnCtrlEnter(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit();
  });
}

/** Shows the result of an action, as texts and elements; without any, clears it. */
function showResult(place, isGood, ...parts) {
  place.className = isGood ? "result good" : "result bad";
  place.replaceChildren(...parts);
}

/** Shows the complaint about a field in the browser's own way, or clears it if empty. Returns whether the field is valid. */
function check(input, complaint) {
  input.setCustomValidity(complaint);
  input.setAttribute("aria-invalid", String(complaint !== ""));
  if (complaint) input.reportValidity();
  return complaint === "";
}

/** Returns a storage area, or null if the browser denies access to it. */
function storage(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}
