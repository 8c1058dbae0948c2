// One generation and those who read it here.

import { Card } from "./card.js";
import { announce, element, inNextFrame, setText } from "./dom.js";
import { count, counted, shortId } from "./format.js";
import { keep } from "./keeping.js";
import { apiKey, askJson, canBeAProtocol, generationPath, sleep, stop } from "./proxy.js";
import { isRunning, stateMark } from "./state.js";
import { Viewer } from "./viewer.js";

const REFRESH_SECONDS = 1;

// Over HTTP/1.1 a browser opens six connections to a server and lets all other requests wait; a
// WebSocket is not counted. Two are left for what the page asks besides.
const MOST_OVER_SSE = 4;

export class Stage {
  #generation;
  #row = null;
  #viewers = new Map(); // to their cards
  #lastNumber = 0;
  #looking = null;

  #state = stateMark();
  #summary = element("p", { class: "summary" });
  #agreement = element("p", { class: "summary" });
  #notice = element("p", { class: "notice" });
  #cards = element("div", { class: "viewers" });
  #stop = button("Stop for everyone", () => this.#stopAll(), "stop");
  #addSse = button("Add SSE viewer", () => this.#add("SSE"));
  #addWebSocket = button("Add WebSocket viewer", () => this.#add("WebSocket"));
  #addFive = button("Add 5 viewers", () => this.#addSome(5));
  #hint = element("p", { class: "hint" });
  #redraw = inNextFrame(() => this.#draw());

  /** `kept` is what `kept()` had of this generation, if it had anything. */
  constructor(generation, kept = { viewers: [] }) {
    this.#generation = generation;
    this.#row = kept.row ?? null;
    this.node = element(
      "section",
      { class: "stage", "aria-labelledby": "stage-title" },
      element(
        "header",
        {},
        element("h2", { id: "stage-title", title: generation }, `Generation ${shortId(generation)}`),
        this.#state.node,
        element("a", { href: `#/generation/${generation}` }, "Timing"),
        this.#stop,
      ),
      this.#notice,
      this.#summary,
      this.#agreement,
      element("div", { class: "buttons" }, this.#addFive, this.#addSse, this.#addWebSocket),
      this.#hint,
      this.#cards,
    );
    if (this.#row !== null) this.#restore(kept.viewers);
    this.#draw();
  }

  get generation() {
    return this.#generation;
  }

  /** Look how the generation stands, each second, until `hide`. */
  show() {
    this.#looking = new AbortController();
    this.#look(this.#looking.signal).catch(() => null);
  }

  /** Viewers read on: that nobody looks at them is no reason to leave. */
  hide() {
    this.#looking?.abort();
  }

  /** Leave with all viewers. */
  leave() {
    this.hide();
    for (const viewer of this.#viewers.keys()) viewer.leave();
  }

  keep() {
    const viewers = [...this.#viewers.keys()].map((viewer) => viewer.kept);
    keep({ generation: this.#generation, row: this.#row, viewers });
  }

  async #look(signal) {
    for (;;) {
      try {
        this.#row = await askJson(generationPath(this.#generation), { signal });
        this.#tell("");
      } catch (error) {
        signal.throwIfAborted();
        this.#tell(`It cannot be looked at: ${error.message}`);
        if (error.status !== undefined && !error.mayPass) return;
      }
      this.#compare();
      this.keep();
      this.#redraw();
      if (this.#row !== null && !isRunning(this.#row)) return;
      await sleep(REFRESH_SECONDS, signal);
    }
  }

  async #stopAll() {
    try {
      this.#row = await stop(this.#generation);
      announce("The generation is stopped for everyone");
    } catch (error) {
      this.#tell(`It could not be stopped: ${error.message}`);
    }
    this.#redraw();
  }

  #addSome(number) {
    let added = 0;
    for (; added < number; added += 1) {
      const overSse = this.#mayAddSse && (added % 2 === 0 || !mayUseWebSocket());
      if (!overSse && !mayUseWebSocket()) break;
      this.#add(overSse ? "SSE" : "WebSocket");
    }
    announce(`${counted(added, "viewer")} added`);
  }

  #add(kind) {
    const viewer = this.#enter({ number: this.#lastNumber + 1, kind });
    viewer.resume();
    this.keep();
  }

  #restore(viewers) {
    for (const { state, ...rest } of viewers) {
      const viewer = this.#enter({ ...rest, state });
      if (!viewer.isConnected) continue;
      if (state === "paused") viewer.pause();
      viewer.resume();
    }
  }

  #enter(given) {
    const { path, mode } = this.#row;
    const viewer = new Viewer(
      { ...given, generation: this.#generation, path, isLive: mode === "live" },
      (changed) => {
        if (changed.state === "ended") this.#compare();
        this.#redraw();
      },
    );
    const card = new Card(viewer, {
      onResume: () => this.#resume(viewer),
      onRemove: () => this.#remove(viewer),
    });
    this.#lastNumber = Math.max(this.#lastNumber, viewer.number);
    this.#viewers.set(viewer, card);
    this.#cards.append(card.node);
    return viewer;
  }

  #resume(viewer) {
    if (viewer.kind === "SSE" && !this.#mayAddSse) {
      announce("No more viewers over SSE: drop another one first");
    } else {
      viewer.resume();
    }
  }

  #remove(viewer) {
    const card = this.#viewers.get(viewer);
    viewer.leave();
    this.#viewers.delete(viewer);
    card.node.remove();
    this.#addFive.focus(); // the button that had it is gone
    this.keep();
    this.#redraw();
  }

  get #mayAddSse() {
    const open = [...this.#viewers.keys()].filter(
      (viewer) => viewer.kind === "SSE" && viewer.isConnected,
    );
    return isMultiplexed() || open.length < MOST_OVER_SSE;
  }

  /** Say whether those who have read from the first event have read the same. */
  #compare() {
    const whole = [...this.#viewers.keys()].filter((viewer) => viewer.start === 0);
    const longest = whole.reduce((text, viewer) => longer(text, viewer.text), "");
    const differ = whole.filter((viewer) => !longest.startsWith(viewer.text));
    let said = "";
    if (differ.length > 0) {
      said = `✕ ${counted(differ.length, "viewer")} of ${whole.length} have another text.`;
    } else if (whole.length > 1 && longest !== "") {
      said = `✓ The same text in all ${whole.length}, as far as each has read.`;
    }
    setText(this.#agreement, said);
  }

  #tell(text) {
    setText(this.#notice, text);
    this.#notice.hidden = text === "";
  }

  #draw() {
    this.#notice.hidden = this.#notice.textContent === "";
    const row = this.#row;
    const runs = row !== null && isRunning(row);
    this.#stop.hidden = !runs;
    this.#addFive.disabled = row === null || (!this.#mayAddSse && !mayUseWebSocket());
    this.#addSse.disabled = row === null || !this.#mayAddSse;
    this.#addWebSocket.disabled = row === null || !mayUseWebSocket();
    setText(this.#hint, this.#why());
    if (row === null) return;
    this.#state.show(row);
    const seqs = [...this.#viewers.keys()].map((viewer) => viewer.seq ?? 0);
    const newest = runs ? Math.max(row.events, ...seqs) : row.events;
    const readers = runs ? `, read by ${count(row.subscribers)} now` : "";
    setText(this.#summary, `One call to the engine: ${counted(newest, "event")}${readers}.`);
    for (const card of this.#viewers.values()) card.show(newest);
  }

  #why() {
    const reasons = [];
    if (!mayUseWebSocket()) reasons.push("A page cannot send this API key with a WebSocket.");
    if (!this.#mayAddSse) {
      reasons.push(
        `${MOST_OVER_SSE} viewers over SSE at most: a browser has six connections over HTTP/1.1.`,
      );
    }
    return reasons.join(" ");
  }
}

function mayUseWebSocket() {
  return canBeAProtocol(apiKey());
}

function isMultiplexed() {
  const [page] = performance.getEntriesByType("navigation");
  return ["h2", "h3"].includes(page?.nextHopProtocol);
}

function longer(one, other) {
  return other.length > one.length ? other : one;
}

function button(word, listener, kind) {
  return element("button", { type: "button", class: kind, click: listener }, word);
}
