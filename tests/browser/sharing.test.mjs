// Which streams of the client module share a connection: tested without a browser, by the locks and requests that they make.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { setImmediate as tick } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { enterPage, never, replaceGlobals } from "./globals.mjs";
import { root } from "./support.mjs";

const { connect } = await import(pathToFileURL(path.join(root, "scripts/client/esker.js")));

const BROKER = "http://broker.test/";
const TOPICS = { topics: ["greeting"] };

/** Grants each lock to the first caller. */
function fakeLocks() {
  const names = [];
  const request = (name) => new Promise(() => names.push(name));
  return { names, request };
}

async function until(is) {
  for (let ticks = 0; !is(); ticks++) {
    assert.ok(ticks < 10_000, "it never happens");
    await tick();
  }
}

/** Runs `act` with a `fetch` that records each request and never responds. */
async function withRequests(act) {
  const requests = [];
  const fetch = (url, { headers, signal }) => (requests.push([String(url), headers.Authorization]), never(signal));
  const restore = replaceGlobals({ fetch });
  try {
    return await act(requests);
  } finally {
    restore();
  }
}

const SERVERS = {
  "Node.js 24, Deno and Bun": () => ({}),
  "a server with a shim of a document": () => ({ window: globalThis, document: {} }),
  "a server with a DOM of its own": () => {
    const window = {};
    window.document = { defaultView: window, visibilityState: "visible" };
    return { window, document: window.document };
  },
  "a worker": () => ({ self: globalThis, WorkerGlobalScope: Object, location: new URL("https://page.test/worker.js") }),
};

for (const [name, globals] of Object.entries(SERVERS)) {
  test(`two people's streams share nothing in ${name}`, () =>
    withRequests(async (requests) => {
      const locks = fakeLocks();
      const restore = replaceGlobals({ ...globals(), navigator: { locks, userAgent: "Node.js/24" } });
      try {
        const roles = [];
        const streams = ["of Ada", "of Grace"].map((token) => connect(BROKER, { ...TOPICS, token, shared: true, onRole: (role) => roles.push(role) }));
        await until(() => requests.length === 2);
        assert.deepEqual(requests.map(([, authorization]) => authorization), ["Bearer of Ada", "Bearer of Grace"]);
        assert.deepEqual([streams.map(({ role }) => role), roles, locks.names], [["alone", "alone"], [], []]);
        for (const stream of streams) stream.close();
      } finally {
        restore();
      }
    }),
  );
}

/** Makes an unsigned JWT: only the broker checks signatures. */
const jwt = (claims) => ["{}", JSON.stringify(claims), "x"].map((part) => Buffer.from(part).toString("base64url")).join(".");
const renewed = (claims) => {
  let count = 0;
  return () => jwt({ ...claims, exp: (count += 1), iat: count, nbf: count, jti: `${Math.random()}` });
};
const ADA = { sub: "greeting", user: "Ada Lovelace, née Byron ÿ?" };

/** Pairs of streams, each as `[broker, options]` or only options, and whether they share a connection. */
const PAIRS = [
  ["the same", true, TOPICS, TOPICS],
  ["topics in another order and case", true, { topics: ["greeting", "Farewell1"] }, { topics: ["farewell1", "GREETING"] }],
  ["other topics", false, TOPICS, { topics: ["greeting", "farewell1"] }],
  ["records and topics", false, TOPICS, { records: true }],
  ["all records and some", false, { records: true }, { records: ["user"] }],
  ["another broker", false, [BROKER, TOPICS], ["http://other.test/", TOPICS]],
  ["another port", false, [BROKER, TOPICS], ["http://broker.test:81/", TOPICS]],
  ["another path", false, [BROKER, TOPICS], [`${BROKER}below`, TOPICS]],
  ["with and without cookies", false, TOPICS, { ...TOPICS, credentials: "include" }],
  ["the same token", true, { ...TOPICS, token: "a" }, { ...TOPICS, token: "a" }],
  ["the same token elsewhere in the request", true, { ...TOPICS, token: "a" }, { ...TOPICS, token: "a", tokenIn: "query" }],
  ["other tokens", false, { ...TOPICS, token: "a" }, { ...TOPICS, token: "b" }],
  ["a token and none", false, { ...TOPICS, token: "a" }, TOPICS],
  ["tokens of other lifetimes", false, { ...TOPICS, token: jwt({ ...ADA, exp: 1 }) }, { ...TOPICS, token: jwt({ ...ADA, exp: 2 }) }],
  ["one function's tokens", true, { ...TOPICS, token: renewed(ADA) }, { ...TOPICS, token: renewed(ADA) }],
  ["claims in another order", true, { ...TOPICS, token: () => jwt({ a: 1, b: 2 }) }, { ...TOPICS, token: async () => jwt({ b: 2, a: 1 }) }],
  ["functions for other people", false, { ...TOPICS, token: renewed(ADA) }, { ...TOPICS, token: renewed({ ...ADA, user: "Grace" }) }],
  ["functions for other topics", false, { ...TOPICS, token: renewed(ADA) }, { ...TOPICS, token: renewed({ ...ADA, sub: "*" }) }],
  ["functions whose tokens can't be read", false, { ...TOPICS, token: () => "a.b.c" }, { ...TOPICS, token: () => "a.b.d" }],
  ["functions without a token", true, { ...TOPICS, token: () => null }, { ...TOPICS, token: async () => undefined }],
  ["the same group", true, { ...TOPICS, shared: "a" }, { ...TOPICS, shared: "a" }],
  ["other groups", false, { ...TOPICS, shared: "a" }, { ...TOPICS, shared: "b" }],
  ["one group, other tokens", false, { ...TOPICS, shared: "a", token: "a" }, { ...TOPICS, shared: "a", token: "b" }],
];

/** Returns the locks that a page's streams request. */
async function locksOf(streams) {
  const locks = fakeLocks();
  const leave = enterPage({ locks });
  const opened = [];
  try {
    for (const [at, given] of streams.entries()) {
      const [broker, options] = Array.isArray(given) ? given : [BROKER, given];
      opened.push(connect(broker, options));
      await until(() => locks.names.length > at);
    }
    return locks.names;
  } finally {
    for (const stream of opened) stream.close();
    leave();
  }
}

for (const [what, shares, one, other] of PAIRS) {
  test(`${what}: ${shares ? "one connection" : "two connections"}`, async () => {
    const [first, second] = await locksOf([one, other]);
    assert.equal(first === second, shares, `${first}\n${second}`);
  });
}

test("a lock's name contains no token", async () => {
  const secret = "the.secret.token";
  for (const name of await locksOf([{ ...TOPICS, token: secret }, { ...TOPICS, token: () => secret }])) {
    assert.ok(!name.includes("secret"), name);
  }
});

test("a stream with its own fetch doesn't share unless configured to", async () => {
  const leave = enterPage({ locks: fakeLocks() });
  try {
    let asked = 0;
    const fetch = (_, { signal }) => ((asked += 1), never(signal));
    const streams = [connect(BROKER, { ...TOPICS, fetch }), connect(BROKER, { ...TOPICS, fetch, shared: true })];
    await until(() => asked === 1 && streams[1].role === "follower");
    assert.equal(streams[0].role, "alone");
    for (const stream of streams) stream.close();
  } finally {
    leave();
  }
});

test("a failing token function is reported by the stream's own connection", () =>
  withRequests(async () => {
    const leave = enterPage({ locks: fakeLocks() });
    try {
      const errors = [];
      const token = () => Promise.reject(new Error("offline"));
      const stream = connect(BROKER, { ...TOPICS, token, onError: ({ message }) => errors.push(message) });
      await until(() => errors.length === 1);
      assert.deepEqual([errors, stream.role, stream.state], [["the token function failed"], "alone", "waiting"]);
      stream.close();
    } finally {
      leave();
    }
  }),
);

test("a stream closed while its token is requested opens no connection", () =>
  withRequests(async (requests) => {
    const locks = fakeLocks();
    const leave = enterPage({ locks });
    try {
      let resolveToken;
      const stream = connect(BROKER, { ...TOPICS, token: () => new Promise((resolve) => (resolveToken = resolve)) });
      await until(() => resolveToken);
      stream.close();
      resolveToken("late");
      for (let ticks = 0; ticks < 20; ticks++) await tick();
      assert.deepEqual([requests, locks.names, stream.state], [[], [], "closed"]);
    } finally {
      leave();
    }
  }),
);
