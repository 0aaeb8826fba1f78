// The form's state, shared by all windows that have it open. Independent of React and the DOM.
//
// A field shows what its user is typing until that is stored, regardless of what arrives in the meantime; otherwise it shows
// the value with the newest id. So the echo of an older value never removes a letter, and in the end all windows show the same.

import { insert, isNewer, listen, timeOf } from "./broker.js";
import { FIELDS, fit } from "./fields.js";

/** Time until a value that could not be stored is sent again, in milliseconds. */
const TRY_AGAIN = 2_000;
/** Smaller than every id. */
const NEVER = "0";
const OPENED = new Date();

const fields = new Map(FIELDS.map((field) => [field.name, field]));
const timers = new Map();
const listeners = new Set();
/**
 * The state of each field: `id` and `stored`, its newest record; `draft`, the user's unsaved change; `sent`, the value being
 * stored; `problem`, why storing failed; `isForeign`, whether the newest record came from another window.
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

/** Returns the value that a field shows. */
export const shown = ({ draft, stored }) => draft ?? stored;

/** Records a user's change, which is stored after a pause. */
export function write(name, draft) {
  change(name, { draft });
  saveIn(name, fields.get(name).pause);
}

/** Stores a value immediately, such as an older version. */
export function put(name, draft) {
  change(name, { draft });
  save(name);
}

/** Stores all pending changes immediately, because the page may close. */
export function flush() {
  for (const name of fields.keys()) save(name);
}

function update(part) {
  state = { ...state, ...part };
  for (const listener of listeners) listener();
}

function change(name, part) {
  update({ fields: { ...state.fields, [name]: { ...state.fields[name], ...part } } });
}

function saveIn(name, millis) {
  clearTimeout(timers.get(name));
  timers.set(name, setTimeout(save, millis, name));
}

/** Stores one value at a time, so that values are stored in the order of typing. */
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

/** Applies a record. While the user is typing it may be an echo, and the first one after opening the page is not a change. */
const isForeign = ({ id, draft }, newId) => draft === undefined && (id !== NEVER || timeOf(newId) > OPENED);

/** Subscribes to the fields. Returns a function that unsubscribes. */
export function start() {
  const stream = listen([...fields.keys()], {
    onEvent: ({ name, data, id }) => take(name, id, JSON.parse(data), isForeign(state.fields[name], id)),
    onState: (connection) => {
      update({ connection });
      if (connection === "open") flush();
    },
    onRole: (role) => update({ role }),
  });
  return () => stream.close();
}
