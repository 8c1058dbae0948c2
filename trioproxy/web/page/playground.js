// Playground: start a generation, and read it as often as one likes.

import { bodyFor, ROUTES } from "./dialects.js";
import { announce, element, setText } from "./dom.js";
import { kept } from "./keeping.js";
import { askJson } from "./proxy.js";
import { Stage } from "./stage.js";

const MODES = {
  replay: "Who joins late gets everything so far, then what comes.",
  live: "Who joins late gets only what comes next.",
  private: "The same request, made again, is another call.",
};

export class Playground {
  title = "Playground";

  #stage = null;
  #place = element("div", { class: "place" });
  #error = element("p", { class: "notice", role: "alert" });
  #form = this.#makeForm();

  constructor() {
    // The last moment of a page that is left or loaded anew.
    addEventListener("pagehide", () => this.#stage?.keep());
  }

  show(main, asked) {
    const last = kept();
    const id = asked ?? this.#stage?.generation ?? last?.generation;
    main.replaceChildren(
      element("h1", { tabindex: -1 }, "Playground"),
      element("div", { class: "playground" }, this.#form, this.#place),
    );
    if (id === undefined) {
      this.#place.replaceChildren(
        element(
          "p",
          { class: "empty" },
          "Start a generation, then add viewers: however many read it, the engine is called once.",
        ),
      );
    } else if (id === this.#stage?.generation) {
      this.#stage.show();
    } else {
      this.#enter(new Stage(id, last?.generation === id ? last : undefined));
    }
    if (id !== undefined) nameInHash(id);
  }

  hide() {
    this.#stage?.hide();
  }

  #enter(stage) {
    this.#stage?.leave();
    this.#stage = stage;
    this.#place.replaceChildren(stage.node);
    stage.show();
  }

  async #start() {
    const { path, mode, linger, ...call } = readForm(this.#form);
    setText(this.#error, "");
    try {
      const row = await askJson("/v1/generations", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: { path, body: bodyFor(path, call), linger, mode },
      });
      if (row.id === this.#stage?.generation) {
        announce("The same request runs already: this is its generation");
        return;
      }
      this.#enter(new Stage(row.id, { row, viewers: [] }));
      nameInHash(row.id);
      announce("The generation has started");
    } catch (error) {
      setText(this.#error, `It could not be started: ${error.message}`);
    }
  }

  #makeForm() {
    const routes = Object.keys(ROUTES).map((path) => element("option", {}, path));
    const modes = Object.keys(MODES).map((name) => element("option", {}, name));
    const meaning = element("span", { class: "hint", id: "mode-hint" }, MODES.replay);
    const mode = element(
      "select",
      {
        name: "mode",
        "aria-describedby": "mode-hint",
        change: () => setText(meaning, MODES[mode.value]),
      },
      ...modes,
    );
    const prompt = element("textarea", { name: "prompt", rows: 3, required: true });
    prompt.value = "Tell me about a river.";
    const number = (name, value, most) =>
      element("input", { name, type: "number", min: 0, max: most, value, required: true });
    return element(
      "form",
      {
        "aria-label": "A new generation",
        submit: (event) => {
          event.preventDefault();
          this.#start();
        },
      },
      field("Prompt", prompt),
      field("Route", element("select", { name: "path" }, ...routes)),
      element("div", {}, field("Mode", mode), meaning),
      field("Model", element("input", { name: "model", placeholder: "the engine's own" })),
      element(
        "div",
        { class: "pair" },
        field("Max tokens", number("tokens", 500, 100000)),
        field("Linger, seconds", number("linger", 30, 3600)),
      ),
      element("button", { class: "first" }, "Start"),
      this.#error,
    );
  }
}

/** A reload goes on with what the hash names. */
function nameInHash(id) {
  history.replaceState(null, "", `#/playground/${id}`);
}

function readForm(form) {
  const { tokens, linger, ...rest } = Object.fromEntries(new FormData(form));
  return { tokens: Number(tokens), linger: Number(linger), ...rest };
}

function field(name, control) {
  return element("label", {}, element("span", {}, name), control);
}
