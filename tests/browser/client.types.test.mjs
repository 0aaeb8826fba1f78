// The client module's types, checked with the TypeScript compiler.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { TIMEOUT, root } from "./support.mjs";

test("the types accept correct programs and reject wrong ones", { timeout: TIMEOUT * 3 }, async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "esker-types-"));
  const usage = path.join(folder, "usage.ts");
  await cp(path.join(root, "scripts/client"), folder, { recursive: true });
  await writeFile(usage, USAGE);
  const compiler = path.join(import.meta.dirname, "node_modules/typescript/bin/tsc");
  const flags = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
  await promisify(execFile)(process.execPath, [compiler, ...flags, usage]).catch(({ stdout }) => assert.fail(stdout));
  await rm(folder, { recursive: true });
});

const USAGE = `
import { connect, Stream, StreamError, type StreamEvent, type State, type TopicOptions } from "./esker.js";
const stream: Stream = connect(new URL("https://events.example.com"), {
  topics: ["orders1234", "prices1234"],
  token: async (reason) => (await fetch("/token?" + reason)).text(),
  signal: new AbortController().signal,
  onState: (state: State) => console.log(state),
  onGap: ({ after, oldest }) => console.log(after, oldest ?? "nothing"),
  onExpired: ({ reason }) => console.log(reason),
  onError: (error) => console.log(error instanceof StreamError, error.status, error.detail, error.isFinal),
});
const off: () => void = stream.on("paid", (event: StreamEvent) => console.log(event.name, event.data, event.id));
off();
stream.add("news12345");
stream.remove("orders1234", "prices1234");
const position: string | undefined = stream.position;
stream.close();
connect("/", { records: ["form.name"], position, shared: "user 17" });
connect("/", { records: true, position: sessionStorage.getItem("position"), shared: false, credentials: "include", token: "a", tokenIn: "query" });
// What a caller passes on may be undefined, whatever the option.
const given: Partial<TopicOptions> = {};
connect("/", { topics: ["news12345"], position: undefined });
connect("/", {
  topics: ["news12345"], records: undefined, prime: given.prime, position: given.position, shared: given.shared, token: given.token,
  tokenIn: given.tokenIn, credentials: given.credentials, silence: given.silence, signal: given.signal, fetch: given.fetch,
  onEvent: given.onEvent, onOpen: given.onOpen, onState: given.onState, onRole: given.onRole, onGap: given.onGap,
  onExpired: given.onExpired, onError: given.onError,
});
// @ts-expect-error one of both
connect("/", { topics: ["news12345"], records: true });
// @ts-expect-error one of both
connect("/", {});
// @ts-expect-error there is no such event
connect("/", { topics: ["news12345"], onMessage: () => {} });
`;
