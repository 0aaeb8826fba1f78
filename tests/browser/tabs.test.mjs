// The agreement between tabs, in many simulated runs: tabs open, close, crash, freeze and lose messages, connections are cut,
// leaders are replaced, and each tab must get every event after its start once and in order. Time, locks, channels and the
// broker are random, with a seed that a failure prints.

import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { root } from "./support.mjs";

const { Member } = await import(pathToFileURL(path.join(root, "scripts/client/tabs.js")));

const LIVES = Number(process.env.LIVES ?? 200);
const FIRST_SEED = Number(process.env.SEED ?? 1);
const encoder = new TextEncoder();
/** The tab whose code is running. */
const running = new AsyncLocalStorage();

/** Returns a seeded random number generator (mulberry32). */
function chance(seed) {
  const next = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  return { next, below: (end) => Math.floor(next() * end), of: (list) => list[Math.floor(next() * list.length)] };
}

class World {
  now = 0;
  agenda = [];
  tabs = [];
  channels = [];
  holder = null;
  queue = [];
  log = [];
  streams = new Set();
  depositions = 0;
  /** No tab closes from now on. */
  isCalm = false;
  /** Calls into or by a tab after it was closed. */
  faults = [];

  constructor(seed) {
    this.chance = chance(seed);
  }

  /** Runs `act` later, unless `tab` is dead then. A frozen tab runs it when it thaws. */
  later(millis, act, tab) {
    const due = { at: this.now + millis, act, tab, isCancelled: false };
    this.agenda.push(due);
    return due;
  }

  async run(millis) {
    const end = this.now + millis;
    for (;;) {
      await new Promise(setImmediate);
      const first = this.agenda.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!first) break;
      this.agenda.splice(this.agenda.indexOf(first), 1);
      this.now = Math.max(this.now, first.at);
      this.do(first);
    }
    this.now = end;
  }

  do({ act, tab, isCancelled }) {
    if (isCancelled || tab?.isDead) return;
    if (tab?.isFrozen) tab.kept.push(act);
    else running.run(tab, act);
  }

  // --- The broker

  publish() {
    const number = this.log.length;
    const id = this.chance.next() < 0.3 ? `own-${this.chance.below(1e9)}-${number}` : String(1_000 + number);
    this.log.push({ id, data: String(number) });
    for (const stream of this.streams) stream.pump();
  }

  /** Returns the index of a position in the log. */
  find(position) {
    if (position === "0") return 0;
    if (position.startsWith("primed-")) return Number(position.slice(7));
    const at = this.log.findIndex(({ id }) => id === position);
    assert.ok(at >= 0, `position ${position}`);
    return at + 1;
  }

  fetch = (url, { signal }) => {
    const tab = running.getStore();
    if (tab.isDead) this.faults.push("asks after its end");
    if (this.chance.next() < 0.1) return this.afterwards(tab, () => Promise.reject(new TypeError("no network")));
    return this.afterwards(tab, () => {
      signal.throwIfAborted();
      const position = url.searchParams.get("last_event_id");
      const stream = new Stream(this, tab, position === null ? this.log.length : this.find(position), signal);
      const prime = position === null && url.searchParams.has("prime") ? `id: primed-${this.log.length}\n\n` : "";
      stream.send(`:\nretry: 50\n${prime}`);
      stream.pump();
      return { status: 200, headers: new Headers({ "Content-Type": "text/event-stream" }), body: { getReader: () => stream } };
    });
  };

  afterwards(tab, answer) {
    const soon = new Promise((resolve) => this.later(this.chance.below(30), resolve, tab));
    return soon.then(answer);
  }

  // --- Locks and channels

  request = (name, { signal, steal }, act) => {
    const tab = running.getStore();
    return new Promise((resolve, reject) => {
      const asked = { tab, act, resolve, reject };
      signal?.addEventListener("abort", () => {
        if (!this.queue.includes(asked)) return;
        this.queue.splice(this.queue.indexOf(asked), 1);
        reject(new DOMException("left", "AbortError"));
      });
      if (steal) this.depositions += 1;
      if (steal && this.holder) {
        const robbed = this.holder;
        this.holder = null;
        this.later(0, () => robbed.reject(new DOMException("stolen", "AbortError")), robbed.tab);
      }
      if (steal) this.queue.unshift(asked);
      else this.queue.push(asked);
      this.grant();
    });
  };

  grant() {
    if (this.holder) return;
    this.holder = this.queue.shift() ?? null;
    const held = this.holder;
    if (!held) return;
    this.later(this.chance.below(10), async () => {
      if (this.holder !== held) return;
      held.resolve(await held.act());
      if (this.holder !== held) return;
      this.holder = null;
      this.grant();
    }, held.tab);
  }

  // --- Tabs

  open() {
    const known = this.log.map(({ id }) => id);
    const position = this.chance.next() < 0.5 ? undefined : this.chance.of(["0", ...known]);
    const tab = { isDead: false, isFrozen: false, kept: [], got: [], start: position === undefined ? null : this.find(position) };
    this.tabs.push(tab);
    running.run(tab, () => this.join(tab, position));
  }

  join(tab, position) {
    const settings = { address: "http://broker/subscribe/greeting", startsLive: true, prime: true, silence: 45_000, fetch: this.fetch };
    tab.position = position;
    tab.member = new Member("group", settings, position, {
      event: ({ id, data }) => {
        if (tab.isDead) this.faults.push("is notified after its end");
        tab.start ??= Number(data);
        tab.got.push(Number(data));
        tab.position = id;
        // A page may close its stream.
        if (!this.isCalm && this.chance.next() < 0.01) this.close(tab);
      },
      moved: (id) => {
        tab.start ??= this.find(id);
        tab.position = id;
      },
      gap: () => assert.fail("a gap"),
      expired: () => {},
      failed: () => {},
      state: () => {},
      role: (role) => (tab.role = role),
    });
  }

  /** Crashes a tab: its posted messages still arrive, its lock is released, its connection is closed. */
  crash(tab) {
    tab.isDead = true;
    for (const stream of [...this.streams]) if (stream.tab === tab) this.streams.delete(stream);
    this.queue = this.queue.filter((asked) => asked.tab !== tab);
    if (this.holder?.tab !== tab) return;
    this.holder = null;
    this.grant();
  }

  close(tab) {
    running.run(tab, () => tab.member.close());
    tab.isDead = true;
    this.crash(tab);
  }

  thaw(tab) {
    tab.isFrozen = false;
    // A frozen page may have lost messages posted to it.
    for (const act of tab.kept.splice(0)) this.later(this.chance.below(5), act, tab);
    this.later(6, () => tab.member.nudge(), tab);
  }

  step() {
    const living = this.tabs.filter(({ isDead }) => !isDead);
    const tab = living.length > 0 ? this.chance.of(living) : null;
    const dice = this.chance.below(100);
    if (dice < 60) this.publish();
    else if (dice < 70 && living.length < 5) this.open();
    else if (!tab) return;
    else if (dice < 74) this.close(tab);
    else if (dice < 78) this.crash(tab);
    else if (dice < 82) tab.isFrozen = true;
    else if (dice < 88 && tab.isFrozen) this.thaw(tab);
    else if (dice < 92) this.cut();
    else if (dice < 94) tab.isDeaf = !tab.isDeaf;
    else if (dice < 97 && !tab.isFrozen) running.run(tab, () => tab.member.nudge());
  }

  cut() {
    const streams = [...this.streams];
    if (streams.length > 0) this.chance.of(streams).end();
  }
}

/** A response body being read, at a random pace, in pieces split anywhere. */
class Stream {
  pieces = [];
  waiting = null;
  isOver = false;

  constructor(world, tab, at, signal) {
    Object.assign(this, { world, tab, at });
    world.streams.add(this);
    signal.addEventListener("abort", () => this.end());
  }

  send(text) {
    const bytes = encoder.encode(text);
    const cut = this.world.chance.below(bytes.length);
    for (const piece of [bytes.slice(0, cut), bytes.slice(cut)]) this.give({ value: piece, done: false });
  }

  pump() {
    for (; this.at < this.world.log.length; this.at++) {
      const { id, data } = this.world.log[this.at];
      this.send(`data: ${data}\nid: ${id}\n\n`);
    }
  }

  end() {
    if (this.isOver) return;
    this.isOver = true;
    this.world.streams.delete(this);
    this.give({ done: true });
  }

  give(piece) {
    this.pieces.push(piece);
    this.world.later(this.world.chance.below(20), () => this.hand(), this.tab);
  }

  hand() {
    if (!this.waiting || this.pieces.length === 0) return;
    const resolve = this.waiting;
    this.waiting = null;
    resolve(this.pieces.shift());
  }

  read() {
    return new Promise((resolve) => {
      this.waiting = resolve;
      this.world.later(this.world.chance.below(5), () => this.hand(), this.tab);
    });
  }
}

/** Provides the browser APIs that a Member uses, from this world. */
function inhabit(world) {
  class Channel {
    last = 0;

    constructor() {
      this.tab = running.getStore();
      world.channels.push(this);
    }

    postMessage(message) {
      for (const other of world.channels) {
        if (other === this || other.tab.isDead) continue;
        // In order between two tabs, but not among three.
        const at = Math.max(world.now + world.chance.below(25), this[`to${world.tabs.indexOf(other.tab)}`] ?? 0);
        this[`to${world.tabs.indexOf(other.tab)}`] = at + 0.001;
        world.later(at - world.now, () => other.isClosed || other.tab.isDeaf || other.onmessage({ data: structuredClone(message) }), other.tab);
      }
    }

    close() {
      this.isClosed = true;
      world.channels.splice(world.channels.indexOf(this), 1);
    }
  }
  const replaced = {
    BroadcastChannel: Channel,
    navigator: { locks: { request: world.request } },
    setTimeout: (act, millis, ...rest) => world.later(millis, () => act(...rest), running.getStore()),
    clearTimeout: (due) => due && (due.isCancelled = true),
  };
  const before = Object.fromEntries(Object.keys(replaced).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]));
  for (const [name, value] of Object.entries(replaced)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  return () => {
    for (const [name, descriptor] of Object.entries(before)) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  };
}

async function live(seed) {
  const world = new World(seed);
  const leave = inhabit(world);
  try {
    for (let step = 0; step < 150; step++) {
      world.step();
      await world.run(world.chance.below(step % 20 === 0 ? 25_000 : 120));
    }
    world.open();
    world.isCalm = true;
    for (const tab of world.tabs) {
      tab.isDeaf = false;
      if (tab.isFrozen && !tab.isDead) world.thaw(tab);
    }
    await world.run(60_000);
    // A tab notices what it has lost without new events, and its own connections end with the next event at the latest.
    check(world, seed);
    world.publish();
    await world.run(60_000);
    check(world, seed);
    return world;
  } finally {
    leave();
  }
}

/** Asserts that living tabs have every event since their start, and dead tabs every event until they died. */
function check({ tabs, log, faults }, seed) {
  assert.deepEqual(faults, [], `seed ${seed}`);
  for (const [at, tab] of tabs.entries()) {
    const end = tab.isDead ? (tab.got.at(-1) ?? -1) + 1 : log.length;
    const owed = Array.from({ length: Math.max(0, end - (tab.start ?? end)) }, (_, more) => tab.start + more);
    assert.deepEqual(tab.got, owed, `seed ${seed}, tab ${at}`);
  }
}

test(`each tab has every event once and in order, in ${LIVES} runs`, { timeout: 280_000 }, async () => {
  let deliveries = 0;
  let depositions = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + LIVES; seed++) {
    const world = await live(seed);
    depositions += world.depositions;
    deliveries += world.tabs.reduce((sum, { got }) => sum + got.length, 0);
    assert.equal(world.tabs.filter(({ isDead, role }) => !isDead && role === "leader").length, 1, `seed ${seed}: one leads`);
    assert.equal(world.streams.size, 1, `seed ${seed}: one connection`);
  }
  assert.ok(deliveries > LIVES * 50 && depositions > LIVES / 10, "enough has happened to show something");
});

test("a tab that requests the lock twice, because the first response is late, has one connection", { timeout: 60_000 }, async () => {
  const LATE = 10_000;
  const world = new World(FIRST_SEED);
  let rob = () => {};
  world.request = (name, { signal }, act) =>
    new Promise((resolve, reject) => {
      const stolen = () => reject(new DOMException("stolen", "AbortError"));
      signal?.addEventListener("abort", stolen);
      const grant = async () => {
        if (signal?.aborted) return;
        rob();
        rob = stolen;
        resolve(await act());
      };
      world.later(LATE, grant, running.getStore());
    });
  const leave = inhabit(world);
  try {
    world.open();
    await world.run(5_000);
    running.run(world.tabs[0], () => world.tabs[0].member.nudge());
    await world.run(3 * LATE);
    world.publish();
    await world.run(1_000);
    assert.equal(world.tabs[0].role, "leader");
    assert.equal(world.streams.size, 1);
    assert.deepEqual(world.tabs[0].got, [0]);
  } finally {
    leave();
  }
});
