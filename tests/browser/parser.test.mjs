// The client module's parser, without a browser: the WHATWG HTML standard's rules for event streams, with every split of the
// bytes.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { root } from "./support.mjs";

const { Parser } = await import(pathToFileURL(path.join(root, "scripts/client/parser.js")));

/** Parses a stream that arrives in these pieces, and returns what it reports. */
function read(pieces, position) {
  const said = [];
  const parser = new Parser(
    {
      event: ({ name, data, id }, isStamped) => said.push([name, data, id, isStamped]),
      moved: (id) => said.push(["moved", id]),
      retry: (millis) => said.push(["retry", millis]),
    },
    position,
  );
  for (const piece of pieces) parser.push(piece);
  return said;
}

const bytes = (text) => new TextEncoder().encode(text);

const CASES = [
  ["every field", "event: add\ndata: 1\nid: 7\nretry: 10\n\n", [["retry", 10], ["add", "1", "7", true]]],
  ["several lines of data", "data: a\ndata\ndata:  b\n\n", [["message", "a\n\n b", "", false]]],
  ["CR, LF and CRLF", "data: a\r\rdata: b\r\n\r\ndata: c\n\rdata: d\r\n\n", [..."abcd"].map((data) => ["message", data, "", false])],
  ["one byte order mark", "\uFEFFdata: a\n\n", [["message", "a", "", false]]],
  ["but not two", "\uFEFF\uFEFFdata: a\n\ndata: b\n\n", [["message", "b", "", false]]],
  ["characters of two to four bytes", "data: ä€😀\n\n", [["message", "ä€😀", "", false]]],
  ["bytes that are not UTF-8", new Uint8Array([...bytes("data: "), 0xff, 0xe2, 0x82, ...bytes("\n\n")]), [["message", "\uFFFD\uFFFD", "", false]]],
  ["comments and unknown fields", ": hi\nfoo: bar\n:\ndata: a\n Data: b\n\n", [["message", "a", "", false]]],
  ["an id that stays", "id: 1\ndata: a\n\ndata: b\n\n", [["message", "a", "1", true], ["message", "b", "1", false]]],
  ["an id that is taken back", "id: 1\ndata: a\n\nid\ndata: b\n\n", [["message", "a", "1", true], ["message", "b", "", true]]],
  ["an id with NUL", "id: 1\0\ndata: a\n\n", [["message", "a", "", false]]],
  ["an id without data", "id: 9\n\n", [["moved", "9"]]],
  ["retry of digits alone", "retry: 1x\nretry: -1\nretry:\nretry: 5\nretry: 1.5\n", [["retry", 5]]],
  ["empty data", "data\n\ndata:\n\n", [["message", "", "", false], ["message", "", "", false]]],
  ["a name without data", "event: a\n\ndata: b\n\n", [["message", "b", "", false]]],
  ["no space and one space", "data:a\ndata: b\ndata:  c\n\n", [["message", "a\nb\n c", "", false]]],
  ["an end in the middle", "data: a\n\ndata: b\n", [["message", "a", "", false]]],
];

for (const [what, text, expected] of CASES) {
  test(what, () => {
    const whole = typeof text === "string" ? bytes(text) : text;
    assert.deepEqual(read([whole]), expected);
    assert.deepEqual(read([...whole].map((byte) => Uint8Array.of(byte))), expected, "byte by byte");
    for (let first = 0; first <= whole.length; first++) {
      for (let second = first; second <= whole.length; second++) {
        const pieces = [whole.slice(0, first), whole.slice(first, second), whole.slice(second)];
        assert.deepEqual(read(pieces), expected, `split at ${first} and ${second}`);
      }
    }
  });
}

test("a position remains until the stream sets another one", () => {
  assert.deepEqual(read([bytes("data: a\n\n")], "42"), [["message", "a", "42", false]]);
});
