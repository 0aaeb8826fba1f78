// The form's state, shared with everybody who has it open. Refuses to know React and the DOM.
//
// A field shows what its user is typing until that is stored, whatever arrives meanwhile; otherwise what has the newest id. So
// the echo of an older value never takes a letter away, and in the end all windows show the same.

import { insert, isNewer, listen, timeOf } from "./broker.js";
import { FIELDS, fit } from "./fields.js";

/** How long until what could not be stored is tried again: in milliseconds. */
const TRY_AGAIN = 2_000;
/** The first of all ids. */
const NEVER = "0";
const OPENED = new Date();

const fields = new Map(FIELDS.map((field) => [field.name, field]));
const timers = new Map();
const listeners = new Set();
/**
 * Of each field: `id` and `stored`, its newest record; `draft`, if its user has changed it since; `sent`, what is being stored;
 * `problem`, why that failed; `isForeign`, whether the newest record came from another window.
 */
let state = {
  connection: "connecting",
  role: "alone",
  fields: Object.fromEntries(FIELDS.map(({ name, initial }) => [name, { id: NEVER, stored: initial }])),
};

export const subscribe = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export const snapshot = () => state;

/** What a field shows. */
export const shown = ({ draft, stored }) => draft ?? stored;

/** What its user has done to a field; stored once there is a pause. */
export function write(name, draft) {
  change(name, { draft });
  saveIn(name, fields.get(name).pause);
}

/** Stores a value at once, such as an older version. */
export function put(name, draft) {
  change(name, { draft });
  save(name);
}

/** Stores at once what waits for a pause: the page may go. */
export function flush() {
  for (const name of fields.keys()) save(name);
}

function tell(part) {
  state = { ...state, ...part };
  for (const listener of listeners) listener();
}

function change(name, part) {
  tell({ fields: { ...state.fields, [name]: { ...state.fields[name], ...part } } });
}

function saveIn(name, millis) {
  clearTimeout(timers.get(name));
  timers.set(name, setTimeout(save, millis, name));
}

/** One at a time, so that the order of storing is that of typing. */
async function save(name) {
  clearTimeout(timers.get(name));
  const { draft, sent } = state.fields[name];
  if (draft === undefined || sent !== undefined) return;
  change(name, { sent: draft });
  try {
    const id = await insert(name, draft);
    take(name, id, draft, false);
    change(name, { sent: undefined, problem: undefined });
    if (state.fields[name].draft === draft) change(name, { draft: undefined });
    else saveIn(name, fields.get(name).pause);
  } catch (error) {
    change(name, { sent: undefined, problem: error.message });
    saveIn(name, TRY_AGAIN);
  }
}

function take(name, id, value, isForeign) {
  if (isNewer(id, state.fields[name].id)) change(name, { id, stored: fit(fields.get(name), value), isForeign });
}

/** What comes while the user is typing may be the echo of it; and what comes first is no change, unless the page is older. */
const isForeign = ({ id, draft }, newId) => draft === undefined && (id !== NEVER || timeOf(newId) > OPENED);

/** Starts listening; the answer ends it. */
export function start() {
  const stream = listen([...fields.keys()], {
    onEvent: ({ name, data, id }) => take(name, id, JSON.parse(data), isForeign(state.fields[name], id)),
    onState: (connection) => {
      tell({ connection });
      if (connection === "open") flush();
    },
    onRole: (role) => tell({ role }),
  });
  return () => stream.close();
}
