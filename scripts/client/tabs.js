// One stream for all tabs of a group (group.js). One of them leads: it holds a Web Lock and the connection, and hands every
// event on by BroadcastChannel. The others follow. Refuses to know HTTP, and who listens to which event.
//
// Nothing is lost, doubled or reordered, because what the leader hands on is a chain: each event comes with the id of the
// one before it. A follower takes an event only if that is the id it stands at itself. If it has had the event already, it
// passes over it; if not, it has missed something (it came late, was frozen, its leader died), and gets that by a connection of its
// own, until the two streams meet at an event. Ids are compared for equality alone: a publisher may give its own.

import { Connection } from "./connection.js";

/** How many of the last ids are known again. The streams of two tabs are hardly ever further apart. */
const REMEMBERED = 1_024;
/** After so long a silence a visible tab asks the leader where it stands: in milliseconds. */
const SILENCE = 15_000;
/** A leader that has not answered a visible tab for so long is hung, and deposed. */
const PATIENCE = 4_000;

const isVisible = () => globalThis.document?.visibilityState !== "hidden";

/** A tab's part in a group. Tells `sink` what a Connection would tell it, and `role("leader" | "follower")`. */
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
  /** The connection for this tab alone, while it catches up, and what the leader has handed on meanwhile. */
  #own = null;
  #heard = [];
  #giveLockBack = () => {};
  #candidacy = new AbortController();
  #timer;

  /** `group` names those who share: same broker, same topics or records, same credentials. */
  constructor(group, settings, position, sink) {
    this.#group = group;
    this.#settings = settings;
    this.#position = position;
    this.#seen = new Recent(REMEMBERED);
    if (position !== undefined) this.#seen.add(position);
    this.#sink = sink;
    this.#channel = new BroadcastChannel(group);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
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
    this.#giveLockBack();
    this.#channel.close();
  }

  /** A reason to try again: the network is back, or somebody looks at this tab. */
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
    // A lock that comes late, when it has been asked for again, is given back: one connection is enough.
    const lead = () => new Promise((resolve) => (candidacy === this.#candidacy ? this.#lead(resolve) : resolve()));
    navigator.locks.request(this.#group, options ?? { signal: candidacy.signal }, lead).catch((error) => {
      if (this.#hasLeft || candidacy !== this.#candidacy) return;
      if (this.#main) this.#depose();
      // There are no locks for this page; it is served, if alone.
      else if (error.name !== "AbortError") this.#lead(() => {});
    });
  }

  #lead(giveBack) {
    if (this.#hasLeft) return giveBack();
    clearTimeout(this.#timer);
    this.#giveLockBack = giveBack;
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
        this.#tellWhere();
      },
      gap: (gap) => {
        this.#post({ kind: "gap", gap });
        this.#sink.gap(gap);
      },
      state: (state) => {
        this.#setState(state);
        // Another tab may have a token that is good; where none has, each finds out for itself.
        if (state === "closed") this.close();
        else this.#tellWhere();
      },
      expired: (notice) => this.#sink.expired(notice),
      failed: (error) => this.#sink.failed(error),
    });
  }

  /** Another tab has taken the lock away, because this one did not answer. */
  #depose() {
    this.#main.close();
    this.#main = null;
    this.#sink.role("follower");
    this.#candidate();
    this.#ask(false);
  }

  /** Asks the leader where it stands: what was lost shows by that even if nothing new happens. */
  #ask(isNudge) {
    this.#post({ kind: "where", isNudge });
    this.#expect(PATIENCE, () => this.#candidate({ steal: true }));
  }

  /** What to do unless something is heard before. A tab in the background is slow itself, and can wait until somebody looks. */
  #expect(millis, otherwise) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (!this.#hasLeft && !this.#main && isVisible()) otherwise();
    }, millis);
  }

  // --- What is said among the tabs

  #post(message) {
    if (!this.#hasLeft) this.#channel.postMessage(message);
  }

  #tellWhere() {
    this.#post({ kind: "here", position: this.#position, state: this.#state });
  }

  #hear(message) {
    if (this.#hasLeft) return;
    if (this.#main) return this.#answer(message);
    if (message.kind === "where") return;
    this.#expect(SILENCE, () => this.#ask(false));
    if (message.kind === "event") this.#follow(message);
    else if (message.kind === "here") this.#compare(message);
    else if (message.kind === "gap" && !this.#own) this.#sink.gap(message.gap);
  }

  /** The leader follows nobody: what one who has been deposed still says is of no interest. */
  #answer(message) {
    if (message.kind !== "where") return;
    if (message.isNudge) this.#main.nudge();
    this.#tellWhere();
  }

  // --- Following

  #follow(message) {
    // A handler may have closed the stream, and more be at hand.
    if (this.#hasLeft) return;
    const { before, event } = message;
    if (this.#own) this.#note(event.id, message);
    else if (before === this.#position || this.#isAnywhere()) this.#deliver(event);
    else if (!this.#seen.has(event.id)) this.#catchUp(event.id, message);
  }

  #compare({ position, state }) {
    this.#setState(state);
    if (this.#hasLeft) return;
    if (position === this.#position) return this.#stopCatchingUp();
    if (position === undefined) return;
    if (this.#own) this.#note(position, null);
    else if (this.#isAnywhere()) this.#moveTo(position);
    else if (!this.#seen.has(position)) this.#catchUp(position, null);
  }

  /** Whether this tab wants what is new and has no position yet, so that any will do. */
  #isAnywhere() {
    return this.#position === undefined && this.#settings.startsLive;
  }

  /** Gets what is missed by a connection of its own. The leader is known to stand at `id`, by `message` if that was an event. */
  #catchUp(id, message) {
    this.#heard = [{ id, message }];
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
        // Refused for good: this tab may not have what the others have.
        if (state !== "closed") return;
        this.#setState(state);
        this.close();
      },
    });
    this.#own = own;
  }

  /** While catching up: the leader stands at `id`. If this tab has been there, the chain goes on from here. */
  #note(id, message) {
    if (this.#seen.has(id)) return this.#stopCatchingUp();
    this.#heard.push({ id, message });
    if (this.#heard.length > REMEMBERED) this.#heard.shift();
  }

  /** While catching up: this tab has come to `id`. If the leader has been there, what it has handed on since is what is next. */
  #meet(id) {
    const at = this.#heard.findIndex((heard) => heard.id === id);
    if (at < 0) return;
    const next = this.#heard.slice(at + 1);
    this.#stopCatchingUp();
    for (const { message } of next) if (message) this.#follow(message);
  }

  #stopCatchingUp() {
    this.#own?.close();
    this.#own = null;
    this.#heard = [];
  }

  #deliver(event) {
    this.#standAt(event.id);
    this.#sink.event(event);
  }

  #moveTo(position) {
    this.#standAt(position);
    this.#sink.moved(position);
  }

  #standAt(position) {
    this.#position = position;
    this.#seen.add(position);
  }

  #setState(state) {
    this.#state = state;
    this.#sink.state(state);
  }
}

/** The last so many of what was added. */
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
