// Server-sent events, read with fetch: an EventSource can send no API key, and cannot be paused.
// The format is WHATWG HTML's, section 9.2.

export class EventParser {
  #line = ""; // what has come of a line whose end has not
  #event = blank();

  /** The events that are whole with this piece of the stream. */
  feed(text) {
    const events = [];
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop();
    for (const line of lines) this.#take(line.endsWith("\r") ? line.slice(0, -1) : line, events);
    return events;
  }

  #take(line, events) {
    if (line === "") {
      if (this.#event.data.length > 0) {
        events.push({ ...this.#event, data: this.#event.data.join("\n") });
      }
      this.#event = blank();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: the heartbeat
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#event.data.push(value);
    else if (field === "event") this.#event.name = value;
    else if (field === "id") this.#event.id = value;
  }
}

/**
 * The events of a body, until it ends. Before each read `mayRead` is awaited, and once more before
 * what was read is told: who waits there takes nothing from the connection, as a slow reader does.
 */
export async function* readEvents(body, mayRead = () => null) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      await mayRead();
      const { value, done } = await reader.read();
      if (done) return;
      await mayRead();
      yield* parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => null); // it may be broken already
  }
}

function blank() {
  return { id: null, name: null, data: [] };
}
