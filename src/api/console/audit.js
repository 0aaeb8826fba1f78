// All versions of a record as a timeline, loaded page by page through the broker's Link headers.

/** Maximum number of versions shown when the newest come first; older ones are removed. */
const MAX_VERSIONS = 1000;
/** Maximum number of pages read at once to find the newest versions. */
const MAX_PAGES = 50;
/** Time limit for a page, in seconds. */
const AUDIT_TIMEOUT = 15;

const audit = { name: "", versions: [], next: null, isNewestFirst: false, run: 0 };

/** Returns the query of the next page from the Link header. Its path is unusable below a proxy's path. */
function nextQuery(headers) {
  const link = /<([^>]*)>\s*;[^,]*rel="?next"?/.exec(headers.get("Link") ?? "");
  return link ? new URL(link[1], BASE).search : null;
}

async function readPage(query) {
  const { text, headers } = await askWhole("subscriber", `audit${query}`, AUDIT_TIMEOUT);
  if (jsonComplaint(text)) throw new Error("The response is not JSON.");
  const idOf = (key) => key.slice(key.lastIndexOf("_v_") + 3);
  const versions = jsonMembers(text).map(([key, data]) => ({ id: idOf(key), data }));
  return { versions, next: nextQuery(headers) };
}

/** Reads one page, or as many as it takes to reach the newest versions. Discards the results if another request was made. */
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
    if (run === audit.run) showFailure($("audit-result"), error);
  } finally {
    if (run === audit.run) $("look").removeAttribute("aria-busy");
  }
}

function showVersions() {
  const items = audit.versions.map((version, at) => versionItem(version, audit.versions[at - 1]));
  $("versions").replaceChildren(...(audit.isNewestFirst ? items.reverse() : items));
  const more = audit.next === null ? "" : "; there are more";
  showResult($("audit-result"), true, items.length ? `${plural(items.length, "version")} of ${visible(audit.name)}${more}` : `No record is named ${visible(audit.name)}`);
  $("more").hidden = audit.next === null;
}

function versionItem({ id, data }, before) {
  const millis = timeOfId(id);
  const later = before && millis ? `${elapsed(millis - timeOfId(before.id))} later` : "";
  return el(
    "li",
    null,
    el("div", { class: "facts" }, el("time", null, millis ? dayAndTime(millis) : id), el("span", { class: "id" }, id), el("span", null, later)),
    before ? el("div", { class: "changed" }, ...changes(before.data, data)) : null,
    el("pre", { tabindex: "0" }, prettyJson(data)),
  );
}

/** Lists the differences from the previous version, by member if both are objects. */
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

/** Clears the versions and discards responses to earlier requests. */
function clearVersions() {
  audit.run += 1;
  audit.versions = [];
  $("look").removeAttribute("aria-busy");
  $("versions").replaceChildren();
  $("more").hidden = true;
  showResult($("audit-result"), true);
}

function submitAudit(event) {
  event?.preventDefault();
  const form = $("audit").elements;
  clearVersions();
  if (!check(form.name, form.name.value ? "" : "Enter a name")) return;
  Object.assign(audit, { name: form.name.value, isNewestFirst: form.order.value === "newest" });
  const limit = audit.isNewestFirst ? MAX_VERSIONS : form.limit.value;
  // The name is not in the path, because browsers and proxies resolve `.` and `..` there.
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
