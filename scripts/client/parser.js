// Bytes of an event stream to events, as the WHATWG HTML standard, section 9.2.6, interprets them. Refuses to know where
// the bytes come from, and what the events are for.

const DIGITS = /^[0-9]+$/;

/**
 * Takes a stream in pieces of any size and tells `sink` what it says:
 * `event({name, data, id}, isStamped)` for each event, where `isStamped` tells that it had an id of its own,
 * `moved(id)` for a block with an id and no data, and `retry(milliseconds)`.
 */
export class Parser {
  // The decoder drops one leading byte order mark, and keeps a character that is split between two pieces.
  #decoder = new TextDecoder();
  #sink;
  #line = "";
  #endedInCr = false;
  #id;
  #block = emptyBlock();

  /** `id` is the position from which the stream goes on. */
  constructor(sink, id = "") {
    this.#sink = sink;
    this.#id = id;
  }

  /** Takes the next bytes. What is unfinished when the stream ends is dropped with the parser. */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    const endsInCr = text.endsWith("\r");
    // A CR ended its line as soon as it came; an LF right after it belongs to it.
    if (this.#endedInCr && text[0] === "\n") text = text.slice(1);
    this.#endedInCr = endsInCr;
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    for (const line of lines) this.#take(line);
  }

  #take(line) {
    if (line === "") return this.#endBlock();
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    this.#takeField(field, value);
  }

  #takeField(field, value) {
    if (field === "event") this.#block.name = value;
    else if (field === "data") this.#block.data.push(value);
    else if (field === "id" && !value.includes("\0")) {
      this.#id = value;
      this.#block.isStamped = true;
    } else if (field === "retry" && DIGITS.test(value)) this.#sink.retry(Number(value));
  }

  #endBlock() {
    const { name, data, isStamped } = this.#block;
    this.#block = emptyBlock();
    if (data.length > 0) this.#sink.event({ name: name || "message", data: data.join("\n"), id: this.#id }, isStamped);
    else if (isStamped) this.#sink.moved(this.#id);
  }
}

function emptyBlock() {
  return { name: "", data: [], isStamped: false };
}
