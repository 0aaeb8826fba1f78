// Shares one stream among all tabs of a group (group.js). One tab leads: it holds a Web Lock and the connection, and
// forwards every event through a BroadcastChannel. The others follow. Independent of HTTP and of event handlers.
//
// Nothing is lost, duplicated or reordered, because the leader's events form a chain: each comes with the id of the event
// before it. A follower accepts an event only if its own position is that id. If it has already seen the event, it skips
// it. Otherwise it has missed something (it started late, was frozen, or its leader died) and gets that over its own
// connection, until both streams meet at an event. Ids are only compared for equality, because publishers can choose them.

import { Connection } from "./connection.js";

/** How many recent ids are remembered. The streams of two tabs are hardly ever further apart. */
const REMEMBERED = 1_024;
/** After this much silence, a visible tab asks the leader for its position, in milliseconds. */
const SILENCE = 15_000;
/** A leader that has not replied to a visible tab for this long is replaced, in milliseconds. */
const PATIENCE = 4_000;

const isVisible = () => globalThis.document?.visibilityState !== "hidden";

/** A tab's membership in a group. Calls `sink` as a Connection does, and additionally `role("leader" | "follower")`. */
export class Member {
  #group;
  #settings;
  #sink;
  #channel;
  #position;
  #seen;
  #state = "connecting";
  #hasLeft = false;
  /** The connection for all, if this tab leads. */
  #main = null;
  /** This tab's own connection while it catches up, and what the leader has forwarded in the meantime. */
  #own = null;
  #received = [];
  #releaseLock = () => {};
  #candidacy = new AbortController();
  #timer;

  /** `group` is the name of the group: same broker, same topics or records, same credentials. */
  constructor(group, settings, position, sink) {
    this.#group = group;
    this.#settings = settings;
    this.#position = position;
    this.#seen = new Recent(REMEMBERED);
    if (position !== undefined) this.#seen.add(position);
    this.#sink = sink;
    this.#channel = new BroadcastChannel(group);
    this.#channel.onmessage = ({ data }) => this.#receive(data);
    this.#sink.role("follower");
    this.#candidate();
    this.#ask(false);
  }

  /** Leaves the group; if this tab leads, the next one takes over. */
  close() {
    this.#hasLeft = true;
    clearTimeout(this.#timer);
    this.#main?.close();
    this.#own?.close();
    this.#candidacy.abort();
    this.#releaseLock();
    this.#channel.close();
  }

  /** Tries again immediately, because the network is back or the tab has become visible. */
  nudge() {
    if (this.#main) this.#main.nudge();
    else this.#ask(true);
    this.#own?.nudge();
  }

  // --- Who leads

  #candidate(options) {
    this.#candidacy.abort();
    const candidacy = new AbortController();
    this.#candidacy = candidacy;
    // A lock that is granted after it has been requested again is released: one connection is enough.
    const lead = () => new Promise((resolve) => (candidacy === this.#candidacy ? this.#lead(resolve) : resolve()));
    navigator.locks.request(this.#group, options ?? { signal: candidacy.signal }, lead).catch((error) => {
      if (this.#hasLeft || candidacy !== this.#candidacy) return;
      if (this.#main) this.#depose();
      // This page can't use locks, so it leads without one.
      else if (error.name !== "AbortError") this.#lead(() => {});
    });
  }

  #lead(releaseLock) {
    if (this.#hasLeft) return releaseLock();
    clearTimeout(this.#timer);
    this.#releaseLock = releaseLock;
    this.#stopCatchingUp();
    this.#sink.role("leader");
    if (this.#hasLeft) return;
    this.#main = new Connection(this.#settings, this.#position, {
      event: (event) => {
        this.#post({ kind: "event", before: this.#position, event });
        this.#deliver(event);
      },
      moved: (position) => {
        this.#moveTo(position);
        this.#postPosition();
      },
      gap: (gap) => {
        this.#post({ kind: "gap", gap });
        this.#sink.gap(gap);
      },
      state: (state) => {
        this.#setState(state);
        // Another tab may have a valid token; if none has, each will find out for itself.
        if (state === "closed") this.close();
        else this.#postPosition();
      },
      expired: (notice) => this.#sink.expired(notice),
      failed: (error) => this.#sink.failed(error),
    });
  }

  /** Steps down: another tab has taken the lock because this one did not reply. */
  #depose() {
    this.#main.close();
    this.#main = null;
    this.#sink.role("follower");
    this.#candidate();
    this.#ask(false);
  }

  /** Asks the leader for its position, to detect lost events even if nothing new is published. */
  #ask(isNudge) {
    this.#post({ kind: "where", isNudge });
    this.#expect(PATIENCE, () => this.#candidate({ steal: true }));
  }

  /** Calls `otherwise` unless a message arrives within `millis`. Background tabs are throttled, and wait until they are visible. */
  #expect(millis, otherwise) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (!this.#hasLeft && !this.#main && isVisible()) otherwise();
    }, millis);
  }

  // --- Messages between tabs

  #post(message) {
    if (!this.#hasLeft) this.#channel.postMessage(message);
  }

  #postPosition() {
    this.#post({ kind: "here", position: this.#position, state: this.#state });
  }

  #receive(message) {
    if (this.#hasLeft) return;
    if (this.#main) return this.#reply(message);
    if (message.kind === "where") return;
    this.#expect(SILENCE, () => this.#ask(false));
    if (message.kind === "event") this.#follow(message);
    else if (message.kind === "here") this.#compare(message);
    else if (message.kind === "gap" && !this.#own) this.#sink.gap(message.gap);
  }

  /** Replies as the leader, which ignores events that a former leader still forwards. */
  #reply(message) {
    if (message.kind !== "where") return;
    if (message.isNudge) this.#main.nudge();
    this.#postPosition();
  }

  // --- Following

  #follow(message) {
    // A handler may have closed the stream while there are more messages.
    if (this.#hasLeft) return;
    const { before, event } = message;
    if (this.#own) this.#note(event.id, message);
    else if (before === this.#position || this.#acceptsAnyPosition()) this.#deliver(event);
    else if (!this.#seen.has(event.id)) this.#catchUp(event.id, message);
  }

  #compare({ position, state }) {
    this.#setState(state);
    if (this.#hasLeft) return;
    if (position === this.#position) return this.#stopCatchingUp();
    if (position === undefined) return;
    if (this.#own) this.#note(position, null);
    else if (this.#acceptsAnyPosition()) this.#moveTo(position);
    else if (!this.#seen.has(position)) this.#catchUp(position, null);
  }

  /** Whether this tab wants only new events and has no position yet, so that it can start at any. */
  #acceptsAnyPosition() {
    return this.#position === undefined && this.#settings.startsLive;
  }

  /** Gets missed events over this tab's own connection. The leader is at `id`; `message` is its event, if there was one. */
  #catchUp(id, message) {
    this.#received = [{ id, message }];
    const own = new Connection(this.#settings, this.#position, {
      event: (event) => {
        this.#deliver(event);
        if (own === this.#own) this.#meet(event.id);
      },
      moved: (position) => this.#moveTo(position),
      gap: (gap) => this.#sink.gap(gap),
      expired: (notice) => this.#sink.expired(notice),
      failed: (error) => this.#sink.failed(error),
      state: (state) => {
        // Rejected permanently: this tab may not be allowed what the others are.
        if (state !== "closed") return;
        this.#setState(state);
        this.close();
      },
    });
    this.#own = own;
  }

  /** While catching up: the leader is at `id`. If this tab has seen that id, it can follow again. */
  #note(id, message) {
    if (this.#seen.has(id)) return this.#stopCatchingUp();
    this.#received.push({ id, message });
    if (this.#received.length > REMEMBERED) this.#received.shift();
  }

  /** While catching up: this tab is at `id`. If the leader has been there, deliver what it has forwarded since, and follow. */
  #meet(id) {
    const at = this.#received.findIndex((one) => one.id === id);
    if (at < 0) return;
    const next = this.#received.slice(at + 1);
    this.#stopCatchingUp();
    for (const { message } of next) if (message) this.#follow(message);
  }

  #stopCatchingUp() {
    this.#own?.close();
    this.#own = null;
    this.#received = [];
  }

  #deliver(event) {
    this.#setPosition(event.id);
    this.#sink.event(event);
  }

  #moveTo(position) {
    this.#setPosition(position);
    this.#sink.moved(position);
  }

  #setPosition(position) {
    this.#position = position;
    this.#seen.add(position);
  }

  #setState(state) {
    this.#state = state;
    this.#sink.state(state);
  }
}

/** Remembers the last `size` values. */
class Recent {
  #values = new Set();
  #size;

  constructor(size) {
    this.#size = size;
  }

  add(value) {
    this.#values.delete(value);
    this.#values.add(value);
    if (this.#values.size > this.#size) this.#values.delete(this.#values.values().next().value);
  }

  has(value) {
    return this.#values.has(value);
  }
}
