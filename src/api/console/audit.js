// Every version of a record as a timeline: page by page, as the broker links them.

/** Versions kept in the page; older ones go while the newest are looked for. */
const MAX_VERSIONS = 1000;
/** Pages that one press of the button reads while it looks for the newest. */
const MAX_PAGES = 50;
/** So many seconds a page may take. */
const AUDIT_PATIENCE = 15;

const audit = { name: "", versions: [], next: null, isNewestFirst: false, run: 0 };

/** Where the next page begins, from a Link field; its path is the broker's, which a proxy may have put elsewhere. */
function nextQuery(headers) {
  const link = /<([^>]*)>\s*;[^,]*rel="?next"?/.exec(headers.get("Link") ?? "");
  return link ? new URL(link[1], BASE).search : null;
}

async function readPage(query) {
  const { text, headers } = await askWhole("subscriber", `audit${query}`, AUDIT_PATIENCE);
  if (jsonComplaint(text)) throw new Error("The answer is no JSON.");
  const idOf = (key) => key.slice(key.lastIndexOf("_v_") + 3);
  const versions = jsonMembers(text).map(([key, data]) => ({ id: idOf(key), data }));
  return { versions, next: nextQuery(headers) };
}

/** Reads one page, or as many as lead to the newest versions. What comes when something else was asked for is dropped. */
async function readOn(query) {
  const run = ++audit.run;
  const pages = audit.isNewestFirst ? MAX_PAGES : 1;
  $("look").setAttribute("aria-busy", "true");
  try {
    audit.next = query;
    for (let page = 0; page < pages && audit.next !== null; page += 1) {
      const { versions, next } = await readPage(audit.next);
      if (run !== audit.run) return;
      audit.versions.push(...versions);
      audit.next = next;
      if (audit.isNewestFirst) audit.versions.splice(0, audit.versions.length - MAX_VERSIONS);
    }
    showVersions();
  } catch (error) {
    if (run === audit.run) tellFailure($("audit-answer"), error);
  } finally {
    if (run === audit.run) $("look").removeAttribute("aria-busy");
  }
}

function showVersions() {
  const items = audit.versions.map((version, at) => versionItem(version, audit.versions[at - 1]));
  $("versions").replaceChildren(...(audit.isNewestFirst ? items.reverse() : items));
  const more = audit.next === null ? "" : ", and there are more";
  tell($("audit-answer"), true, items.length ? `${plural(items.length, "version")} of ${visible(audit.name)}${more}` : `Nothing was ever inserted as ${visible(audit.name)}`);
  $("more").hidden = audit.next === null;
}

function versionItem({ id, data }, before) {
  const millis = timeOfId(id);
  const later = before && millis ? `${laps(millis - timeOfId(before.id))} later` : "";
  return el(
    "li",
    null,
    el("div", { class: "facts" }, el("time", null, millis ? dayAndTime(millis) : id), el("span", { class: "id" }, id), el("span", null, later)),
    before ? el("div", { class: "changed" }, ...changes(before.data, data)) : null,
    el("pre", { tabindex: "0" }, prettyJson(data)),
  );
}

/** What differs from the version before, member by member if it has members. */
function changes(before, after) {
  if (before === after) return ["unchanged"];
  if (![before, after].every((text) => text.startsWith("{"))) return ["changed"];
  const [old, now] = [new Map(jsonMembers(before)), new Map(jsonMembers(after))];
  const added = [...now.keys()].filter((key) => !old.has(key)).map((key) => `+${key}`);
  const gone = [...old.keys()].filter((key) => !now.has(key)).map((key) => `−${key}`);
  const changed = [...now.keys()].filter((key) => old.has(key) && old.get(key) !== now.get(key));
  const members = [...changed, ...added, ...gone].map(visible).join(" ");
  return members ? ["changed ", el("b", null, members)] : ["order changed"];
}

/** What was asked for before is answered no more. */
function forgetVersions() {
  audit.run += 1;
  audit.versions = [];
  $("look").removeAttribute("aria-busy");
  $("versions").replaceChildren();
  $("more").hidden = true;
  tell($("audit-answer"), true);
}

function submitAudit(event) {
  event?.preventDefault();
  const form = $("audit").elements;
  forgetVersions();
  if (!check(form.name, form.name.value ? "" : "Which record?")) return;
  Object.assign(audit, { name: form.name.value, isNewestFirst: form.order.value === "newest" });
  const limit = audit.isNewestFirst ? MAX_VERSIONS : form.limit.value;
  // Not in the path: browsers and proxies resolve some names there.
  readOn(`?event=${encodeURIComponent(audit.name)}&limit=${limit}`);
}

function openAudit(name) {
  openTab("tab-audit");
  $("audit").elements.name.value = name;
  submitAudit();
}

function setUpAudit() {
  $("audit").addEventListener("submit", submitAudit);
  $("audit").addEventListener("input", (event) => event.target.setCustomValidity(""));
  $("audit").elements.order.addEventListener("change", () => audit.name && submitAudit());
  $("more").addEventListener("click", () => readOn(audit.next));
}
