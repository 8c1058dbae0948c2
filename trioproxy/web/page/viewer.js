// One reader of a generation. It comes back by itself where its connection breaks, after the last
// event that it has seen, until it has been told the end or is told to leave.

import { apiKey, ask, generationPath, protocols, Refusal, sleep } from "./proxy.js";
import { readEvents } from "./sse.js";
import { textOf } from "./dialects.js";

const RECONNECT_SECONDS = 1;

export class Viewer {
  seq = null; // of the last event; null before the first
  start = null; // the seq before the first event that it saw
  text = "";
  state = "connecting"; // reading, paused, waiting, dropped, ended, refused
  detail = "";

  #changed;
  #leaving = null; // aborts what goes on
  #gate = null; // what a paused reader waits for

  /** `kind` is SSE or WebSocket. `changed` is called after every change. */
  constructor({ number, kind, generation, path, isLive, ...kept }, changed) {
    Object.assign(this, { number, kind, generation, path, isLive }, kept);
    this.#changed = changed;
  }

  /** What another page needs to go on with it. */
  get kept() {
    const { number, kind, seq, start, text, state, detail } = this;
    return { number, kind, seq, start, text, state, detail };
  }

  get isConnected() {
    return ["connecting", "reading", "paused", "waiting"].includes(this.state);
  }

  get canPause() {
    return this.kind === "SSE"; // nothing holds back a WebSocket that a page has opened
  }

  /** Begin, or go on after the last event that it has seen. */
  resume() {
    this.#leaving = new AbortController();
    this.#become("connecting", this.seq === null ? "" : `resumed after event ${this.seq}`);
    this.#read(this.#leaving.signal).catch(() => null); // only when it was told to leave
  }

  /** Leave, as who closes a tab does. */
  drop() {
    this.leave();
    this.#become("dropped", this.seq === null ? "" : `left after event ${this.seq}`);
  }

  /** The same without a word. */
  leave() {
    this.#leaving?.abort();
    this.#open();
  }

  /**
   * Read nothing more from the connection, and keep it: a slow reader. The browser and the system
   * hold tens of megabytes for it before the proxy has to.
   */
  pause() {
    if (this.#gate === null) {
      this.#gate = {};
      this.#gate.opened = new Promise((resolve) => (this.#gate.open = resolve));
    }
    this.#become("paused", "reads nothing; what comes waits");
  }

  readOn() {
    this.#open();
    this.#become("reading", "");
  }

  #open() {
    this.#gate?.open();
    this.#gate = null;
  }

  async #read(signal) {
    const connect = this.kind === "SSE" ? overSse : overWebSocket;
    const mayRead = () => this.#gate?.opened;
    for (;;) {
      const before = this.seq;
      try {
        for await (const message of connect(this, mayRead, signal)) {
          signal.throwIfAborted(); // what comes after leaving is not seen
          if (this.#take(message)) return;
        }
        signal.throwIfAborted();
        // A stream that ends without a word may be whole: who asks for more is told so.
        if (this.seq !== before) continue;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof Refusal && !error.mayPass) {
          this.#become("refused", error.message);
          return;
        }
      }
      this.#become("waiting", "the connection is lost; trying again");
      await sleep(RECONNECT_SECONDS, signal);
    }
  }

  /** Take a message; whether it was the end. */
  #take(message) {
    if (message.type === "end") {
      this.#become("ended", message.detail);
      return true;
    }
    if (message.type === "gap") {
      this.text += `\n[events ${message.first} to ${message.last} are no longer held]\n`;
      this.seq = message.last;
    } else if (message.type === "event") {
      if (message.seq !== null) {
        this.start ??= message.seq - 1;
        this.seq = message.seq;
      }
      this.text += textOf(this.path, message.name, message.data);
    }
    this.#become(this.#gate ? "paused" : "reading", this.detail);
    return false;
  }

  #become(state, detail) {
    this.state = state;
    this.detail = detail;
    this.#changed(this);
  }
}

async function* overSse({ generation, seq, isLive }, mayRead, signal) {
  const path = `${generationPath(generation)}/events`;
  const resuming = seq !== null;
  const response = await ask(isLive && !resuming ? `${path}?mode=live` : path, {
    headers: resuming ? { "Last-Event-ID": `${generation}:${seq}` } : {},
    signal,
  });
  if (response.status === 204) {
    yield { type: "end", detail: "" };
    return;
  }
  yield { type: "open" };
  for await (const { id, name, data } of readEvents(response.body, mayRead)) {
    if (name === "gap") yield { type: "gap", ...JSON.parse(data) };
    else yield { type: "event", seq: id && Number(id.slice(id.lastIndexOf(":") + 1)), name, data };
  }
}

async function* overWebSocket({ generation, seq, isLive }, mayRead, signal) {
  const query = seq !== null ? `?after=${seq}` : isLive ? "?mode=live" : "";
  const url = new URL(`${generationPath(generation)}/ws${query}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, protocols(apiKey()));
  const heard = [];
  let ring = () => null;
  const hear = (item) => {
    heard.push(item);
    ring();
  };
  socket.onopen = () => hear({ type: "open" });
  socket.onmessage = ({ data }) => hear(JSON.parse(data));
  socket.onclose = () => hear(null);
  const leave = () => socket.close(1000);
  signal.addEventListener("abort", leave, { once: true });
  try {
    for (;;) {
      while (heard.length === 0) await new Promise((resolve) => (ring = resolve));
      const message = heard.shift();
      if (message === null) return;
      if (message.type === "error") {
        throw new Refusal(message.error.status, message.error.message);
      } else if (message.type === "end") {
        yield { type: "end", detail: message.error?.message ?? "" };
      } else {
        yield message; // one that was sent away finds its connection closed, and comes back
      }
    }
  } finally {
    signal.removeEventListener("abort", leave);
    leave();
  }
}
