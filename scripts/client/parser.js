// Parses the bytes of an event stream into events, by section 9.2.6 of the WHATWG HTML standard. Independent of where the
// bytes come from and how the events are used.

const DIGITS = /^[0-9]+$/;

/**
 * Takes a stream in pieces of any size and calls `sink`: `event({name, data, id}, hasId)` for each event, where `hasId`
 * means that the event had an `id` field, `moved(id)` for a block with an id but no data, and `retry(milliseconds)`.
 */
export class Parser {
  // The decoder drops a leading byte order mark and joins characters that are split between two pieces.
  #decoder = new TextDecoder();
  #sink;
  #line = "";
  #endedInCr = false;
  #id;
  #block = emptyBlock();

  /** `id` is the position from which the stream resumes. */
  constructor(sink, id = "") {
    this.#sink = sink;
    this.#id = id;
  }

  /** Parses the next bytes. An incomplete event at the end of the stream is dropped. */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    const endsInCr = text.endsWith("\r");
    // A CR already ended its line; an LF right after it belongs to the same line end.
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
      this.#block.hasId = true;
    } else if (field === "retry" && DIGITS.test(value)) this.#sink.retry(Number(value));
  }

  #endBlock() {
    const { name, data, hasId } = this.#block;
    this.#block = emptyBlock();
    if (data.length > 0) this.#sink.event({ name: name || "message", data: data.join("\n"), id: this.#id }, hasId);
    else if (hasId) this.#sink.moved(this.#id);
  }
}

function emptyBlock() {
  return { name: "", data: [], hasId: false };
}
