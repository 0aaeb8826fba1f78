// The form's state, shared by all windows that have it open. Independent of React and the DOM.
//
// A field shows what its user is typing until that is stored, regardless of what arrives in the meantime; otherwise it shows
// the value with the newest id. So the echo of an older value never removes a letter.
//
// A value is stored only if no other window has stored one since this window's user began to type. Otherwise the user decides
// which of the two remains, so that nobody's text is overwritten unseen, and in the end all windows show the same.

import { Conflict, NEVER, Refused, insert, isNewer, listen, newKey, timeOf } from "./broker.js";
import { FIELDS, fit } from "./fields.js";

/** Time until a value that could not be stored is sent again, in milliseconds. */
const TRY_AGAIN = 2_000;
const OPENED = new Date();

const fields = new Map(FIELDS.map((field) => [field.name, field]));
const timers = new Map();
const listeners = new Set();
/**
 * The state of each field: `id` and `stored`, its newest record; `draft`, the user's unsaved change, and `seen`, the version
 * that it changes; `insert`, the insert that has no answer yet; `isSending`, whether it is on its way; `problem`, why storing
 * failed; `conflict`, the version that another window stored first; `isForeign`, whether the newest record came from another
 * window.
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
  edit(name, draft);
  saveIn(name, fields.get(name).pause);
}

/** Stores a value immediately, such as an older version. */
export function put(name, draft) {
  const { id, conflict = NEVER } = state.fields[name];
  change(name, { draft, seen: isNewer(id, conflict) ? id : conflict, conflict: undefined });
  save(name);
}

/** Stores the user's value as the version after the other window's. */
export const keepMine = (name) => put(name, state.fields[name].draft);

/** Drops the user's value. */
export function takeTheirs(name) {
  change(name, { draft: undefined, seen: undefined, conflict: undefined, isForeign: true });
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

/** Changes what the user sees. The first change is one of the version that was shown before. */
function edit(name, draft) {
  const { id, seen = id } = state.fields[name];
  change(name, { draft, seen });
  settle(name);
}

/** Stores one value at a time, so that values are stored in the order of typing. */
async function save(name) {
  clearTimeout(timers.get(name));
  const { draft, seen, isSending, conflict, insert: unanswered } = state.fields[name];
  if (draft === undefined || isSending || conflict !== undefined) return;
  // An insert without an answer may have been stored. It is repeated with its key before anything newer is sent.
  const sent = unanswered ?? { value: draft, seen, key: newKey() };
  change(name, { insert: sent, isSending: true });
  try {
    stored(name, await insert(name, sent.value, sent), sent.value);
  } catch (error) {
    failed(name, error);
  }
}

function stored(name, id, value) {
  take(name, id, value, false);
  change(name, { insert: undefined, isSending: false, problem: undefined, seen: id });
  if (state.fields[name].draft === value) change(name, { draft: undefined, seen: undefined });
  else saveIn(name, fields.get(name).pause);
}

function failed(name, error) {
  if (error instanceof Conflict) {
    change(name, { insert: undefined, isSending: false, problem: undefined, conflict: error.newest });
    settle(name);
    return;
  }
  const isOver = error instanceof Refused;
  change(name, { isSending: false, problem: error.message, ...(isOver && { insert: undefined }) });
  saveIn(name, TRY_AGAIN);
}

/** Ends a conflict if both windows have the same value. */
function settle(name) {
  const { draft, stored, id, conflict } = state.fields[name];
  if (conflict !== undefined && draft === stored && !isNewer(conflict, id)) takeTheirs(name);
}

function take(name, id, value, isForeign) {
  const { id: before, draft, seen } = state.fields[name];
  if (!isNewer(id, before)) return;
  change(name, { id, stored: fit(fields.get(name), value), isForeign });
  // What the user began to type before the page had the field's value is a change of that value.
  if (draft !== undefined && seen === NEVER && timeOf(id) <= OPENED) change(name, { seen: id });
  settle(name);
}

/** Forgets the value of a field, all of whose versions were erased. */
function forget(name) {
  change(name, { id: NEVER, stored: fields.get(name).initial, isForeign: true });
}

/** Applies a record. While the user is typing it may be an echo, and the first one after opening the page is not a change. */
const isForeign = ({ id, draft }, newId) => draft === undefined && (id !== NEVER || timeOf(newId) > OPENED);

/** Subscribes to the fields. Returns a function that unsubscribes. */
export function start() {
  const stream = listen([...fields.keys()], {
    onEvent: ({ name, data, id }) => {
      const value = JSON.parse(data);
      if (fields.has(name)) take(name, id, value, isForeign(state.fields[name], id));
      else if (name === "erased" && fields.has(value.event)) forget(value.event);
    },
    onState: (connection) => {
      update({ connection });
      if (connection === "open") flush();
    },
    onRole: (role) => update({ role }),
  });
  return () => stream.close();
}
