// Remembers which brokers are behind a network that holds a response back until it ends: antivirus programs and intercepting
// proxies do this. Streams from these brokers are polled. Independent of how.

/** After this time a stream is tried again, because the network may have changed, in milliseconds. */
const REMEMBERED = 600_000;

/** Until when streams from an origin are polled. It has no more entries than the page has brokers. */
const polledUntil = new Map();

/** Returns whether streams from the broker at `url` are polled. */
export function holdsBack(url) {
  const { origin } = new URL(url);
  if (Date.now() < (polledUntil.get(origin) ?? 0)) return true;
  polledUntil.delete(origin);
  return false;
}

/** Notes that a stream from the broker at `url` had no byte in time. */
export const noteHeldBack = (url) => void polledUntil.set(new URL(url).origin, Date.now() + REMEMBERED);

/** Notes that the network has passed on the beginning of a response long before its end. */
export const notePassedOn = (url) => void polledUntil.delete(new URL(url).origin);

/** Notes that this may be another network now. */
export const forgetNetwork = () => polledUntil.clear();
