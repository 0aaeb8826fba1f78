// Globals of other environments, for tests of the client module in Node.js itself.

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

/** What a page has that a process has not; returns a function that takes it away again. */
export const enterPage = ({ locks }) => replaceGlobals({ window: globalThis, document: { defaultView: globalThis }, navigator: { locks } });

/** The answer of a `fetch` that waits until it is aborted. */
export const never = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
