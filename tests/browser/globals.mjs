// Globals of other environments, for tests of the client module in Node.js.

/** Replaces globals; returns a function that restores them. */
export function replaceGlobals(values) {
  const before = Object.keys(values).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(values)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  return () => {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  };
}

/** Adds the globals that a page has and a process lacks; returns a function that removes them. */
export const enterPage = ({ locks }) => replaceGlobals({ window: globalThis, document: { defaultView: globalThis }, navigator: { locks } });

/** Returns the response of a `fetch` that never arrives: a promise that rejects when aborted. */
export const never = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
