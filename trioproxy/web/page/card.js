// How one viewer is shown.

import { element, setText } from "./dom.js";
import { count, counted } from "./format.js";

const STATES = {
  connecting: "○ connecting",
  reading: "● reading",
  paused: "‖ paused",
  waiting: "◌ reconnecting",
  dropped: "■ dropped",
  ended: "✓ read to the end",
  refused: "✕ refused",
};

export class Card {
  #viewer;
  #state = element("span", { class: "state" });
  #cursor = element("dd", { class: "cursor" });
  #lag = element("dd", { class: "lag" });
  #detail = element("p", { class: "hint" });
  #progress;
  #written = document.createTextNode("");
  #text;
  #pause = element("button", { type: "button" });
  #drop = element("button", { type: "button" });

  /** `onResume` and `onRemove` are the stage's: they concern more than this viewer. */
  constructor(viewer, { onResume, onRemove }) {
    this.#viewer = viewer;
    const name = `Viewer ${viewer.number}`;
    this.#progress = element("progress", { "aria-label": `${name}: how far it has read` });
    this.#text = element(
      "div",
      { class: "text", tabindex: 0, role: "region", "aria-label": `Text of viewer ${viewer.number}` },
      this.#written,
    );
    this.#pause.addEventListener("click", () => {
      if (viewer.state === "paused") viewer.readOn();
      else viewer.pause();
    });
    this.#drop.addEventListener("click", () => {
      if (viewer.isConnected) viewer.drop();
      else onResume(viewer);
    });
    const remove = element(
      "button",
      { type: "button", "aria-label": `Remove viewer ${viewer.number}`, click: onRemove },
      "Remove",
    );
    this.node = element(
      "article",
      { class: "viewer", "aria-label": name, "data-kind": viewer.kind },
      element(
        "header",
        {},
        element("h3", {}, name),
        element("span", { class: "kind" }, viewer.kind),
        this.#state,
      ),
      element(
        "dl",
        {},
        element("div", {}, element("dt", {}, "Cursor"), this.#cursor),
        element("div", {}, element("dt", {}, "Lag"), this.#lag),
      ),
      this.#progress,
      this.#text,
      this.#detail,
      element("div", { class: "buttons" }, ...(viewer.canPause ? [this.#pause] : []), this.#drop, remove),
    );
  }

  /** `newest` is the seq of the last event that anybody has told of. */
  show(newest) {
    const viewer = this.#viewer;
    const cursor = Math.min(viewer.seq ?? 0, newest); // the frame of an error counts as one more
    const lag = viewer.state === "ended" ? 0 : newest - cursor;
    this.node.dataset.state = viewer.state;
    setText(this.#state, STATES[viewer.state]);
    setText(this.#cursor, count(cursor));
    setText(this.#lag, counted(lag, "event"));
    setText(this.#detail, viewer.detail);
    this.#detail.hidden = viewer.detail === "";
    this.#progress.max = Math.max(newest, 1);
    this.#progress.value = cursor;
    this.#write(viewer.text);

    const { number } = viewer;
    const isPaused = viewer.state === "paused";
    this.#pause.disabled = !["reading", "paused"].includes(viewer.state);
    label(this.#pause, isPaused ? "Read on" : "Pause", number);
    const mayResume = ["dropped", "refused"].includes(viewer.state);
    this.#drop.disabled = !viewer.isConnected && !mayResume;
    label(this.#drop, mayResume ? "Resume" : "Drop", number);
  }

  #write(text) {
    const written = this.#written.length;
    if (text.length === written) return;
    const box = this.#text;
    const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
    this.#written.appendData(text.slice(written)); // a text only grows
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }
}

function label(button, word, number) {
  setText(button, word);
  button.setAttribute("aria-label", `${word} viewer ${number}`);
}
