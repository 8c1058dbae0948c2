// All generations as they change: one list, then one stream of what is new.

import { ask, askJson, sleep } from "./proxy.js";
import { readEvents } from "./sse.js";

const RECONNECT_SECONDS = 1;
const REFRESH_SECONDS = 60; // that a generation is no longer held, no event tells

export class Feed {
  rows = new Map(); // by id
  totals = null;
  isListed = false; // whether `rows` has all that there are
  error = null; // why nothing comes at present
  node = null; // which one is asked, where there are several

  #changed;
  #query;
  #lastId = "";
  #newer = new Set(); // the rows that have come while the list was on its way

  /** `changed` is called after every change. `scope` is `node` or `cluster`. */
  constructor(changed, scope) {
    this.#changed = changed;
    this.#query = scope === "cluster" ? "?scope=cluster" : "";
  }

  /** Read until the signal says that nobody looks any more. */
  async run(signal) {
    const refresh = setInterval(() => this.#fetchList(signal), REFRESH_SECONDS * 1000);
    try {
      for (;;) {
        await this.#readStream(signal);
        this.#tell("The connection is lost. Trying again each second.");
        await sleep(RECONNECT_SECONDS, signal);
      }
    } catch (error) {
      if (!signal.aborted) this.#tell(error.message);
    } finally {
      clearInterval(refresh);
    }
  }

  /** Take in a row that was had elsewhere. */
  put(row) {
    this.rows.set(row.id, { ...this.rows.get(row.id), ...row });
    this.#changed();
  }

  async #readStream(signal) {
    try {
      const response = await ask(`/v1/generations/events${this.#query}`, {
        headers: this.#lastId ? { "Last-Event-ID": this.#lastId } : {},
        signal,
      });
      this.#tell(null);
      // Another stream than before tells only what changes from now on. The list is asked for when
      // it is open, so that nothing is between the two.
      const stream = response.headers.get("X-Generation-Id");
      if (this.#lastId.split(":")[0] !== stream) {
        this.totals = null;
        this.#fetchList(signal);
      }
      for await (const event of readEvents(response.body)) {
        signal.throwIfAborted();
        this.#take(event, signal);
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error.status !== undefined && !error.mayPass) throw error;
    }
  }

  #take({ id, name, data }, signal) {
    if (id !== null) this.#lastId = id;
    if (name === "gap") this.#fetchList(signal);
    else if (name === "generation") {
      const row = JSON.parse(data);
      this.rows.set(row.id, row);
      this.#newer.add(row.id);
    } else if (name === "totals") {
      this.totals = JSON.parse(data);
    }
    this.#changed();
  }

  async #fetchList(signal) {
    this.#newer.clear();
    let list;
    try {
      list = await askJson(`/v1/generations${this.#query}`, { signal });
    } catch {
      return; // the stream is broken too, and tells it
    }
    const newer = [...this.#newer].map((id) => this.rows.get(id));
    this.isListed = true;
    this.node = list.node ?? null;
    this.rows = new Map([...list.data, ...newer].map((row) => [row.id, row]));
    this.#changed();
  }

  #tell(error) {
    this.error = error;
    this.#changed();
  }
}
