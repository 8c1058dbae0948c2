// Live: all generations, as rows.

import { announce, element, inNextFrame, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { count, counted, duration, NONE, rate, shortId, shortName } from "./format.js";
import { stop } from "./proxy.js";
import { sparkline } from "./sparkline.js";
import { isRunning, stateMark } from "./state.js";

const MOST_ENDED = 50;

const TOTALS = [
  ["running", "Running", count],
  ["subscribers", "Readers", count],
  ["upstream_calls", "Calls to the engine", count],
  ["saved_calls", "Calls saved", count],
  ["tokens_per_second", "Tokens/s", rate],
];

const COLUMNS = [
  "Generation", "State", "Model", "Readers", "Tokens", "TTFT", "Tokens/s", "Between tokens", "Actions",
];

const SCOPES = [
  ["node", "This node"],
  ["cluster", "All nodes"],
];

export class Live {
  title = "Live";

  #totals = TOTALS.map(([name, label, format]) => {
    const value = element("dd", {}, NONE);
    return { name, format, value, node: element("div", {}, element("dt", {}, label), value) };
  });
  #connection = element("p", { class: "notice" });
  #missing = element("p", { class: "notice" });
  #scope = "node";
  #choices = SCOPES.map(([scope, label]) =>
    element("button", { type: "button", click: () => this.#choose(scope) }, label),
  );
  #switch = element(
    "div",
    { class: "buttons scopes", role: "group", "aria-label": "Whose generations" },
    ...this.#choices,
  );
  #body = element("tbody", { role: "rowgroup" });
  #empty = element("p", { class: "empty" });
  #more = element("p", { class: "hint" });
  #rows = new Map(); // the rows that are shown, by the id of their generation
  #feed = this.#openFeed(); // kept, so that it resumes
  #leaving = null;

  show(main) {
    // The roles are what a table has by itself, until a narrow screen lays it out as a list.
    const heads = COLUMNS.map((name) =>
      element("th", { scope: "col", role: "columnheader" }, name),
    );
    main.replaceChildren(
      element("h1", { tabindex: -1 }, "Live"),
      this.#switch,
      element("dl", { class: "numbers" }, ...this.#totals.map(({ node }) => node)),
      this.#connection,
      this.#missing,
      element(
        "table",
        { class: "generations", role: "table", "aria-label": "Generations" },
        element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)),
        this.#body,
      ),
      this.#empty,
      this.#more,
    );
    this.#leaving = new AbortController();
    this.#draw();
    this.#feed.run(this.#leaving.signal);
  }

  hide() {
    this.#leaving.abort();
  }

  #openFeed() {
    const feed = new Feed(
      inNextFrame(() => {
        if (feed === this.#feed) this.#draw(); // and not one that was left meanwhile
      }),
      this.#scope,
    );
    return feed;
  }

  #choose(scope) {
    if (scope === this.#scope) return;
    const { node } = this.#feed;
    this.#leaving.abort();
    this.#scope = scope;
    this.#feed = this.#openFeed();
    this.#feed.node = node; // until it has told
    this.#leaving = new AbortController();
    this.#draw();
    this.#feed.run(this.#leaving.signal);
  }

  #draw() {
    const { rows, totals, isListed, error, node } = this.#feed;
    this.#switch.hidden = node === null;
    this.#choices.forEach((choice, index) =>
      choice.setAttribute("aria-pressed", SCOPES[index][0] === this.#scope),
    );
    setText(this.#missing, missingIn(totals?.missing));
    for (const { name, format, value } of this.#totals) {
      setText(value, totals === null ? NONE : format(totals[name]));
    }
    setText(this.#connection, error ?? "");
    this.#connection.hidden = error === null;
    const all = [...rows.values()];
    const running = all.filter(isRunning).sort(newestFirst);
    const ended = all.filter((row) => !isRunning(row)).sort(newestFirst);
    this.#drawRows([...running, ...ended.slice(0, MOST_ENDED)]);
    const hidden = ended.length - MOST_ENDED;
    setText(this.#more, hidden > 0 ? `${counted(hidden, "more")} that have ended`: "");
    this.#empty.hidden = all.length > 0 || !isListed;
    if (!this.#empty.hidden && !this.#empty.hasChildNodes()) {
      const link = element("a", { href: "#/playground" }, "Start one");
      this.#empty.append("There is no generation that this API key may see. ", link, ".");
    }
  }

  #drawRows(rows) {
    const shown = new Set(rows.map((row) => row.id));
    for (const [id, row] of this.#rows) {
      if (!shown.has(id)) {
        row.node.remove();
        this.#rows.delete(id);
      }
    }
    let place = this.#body.firstChild;
    for (const row of rows) {
      if (!this.#rows.has(row.id)) this.#rows.set(row.id, new Row(row, this.#feed));
      const drawn = this.#rows.get(row.id);
      drawn.show(row);
      // One that is where it should be is left alone, for moving it would take its focus away.
      if (drawn.node === place) place = place.nextSibling;
      else this.#body.insertBefore(drawn.node, place);
    }
  }
}

class Row {
  #state = stateMark();
  #model = document.createTextNode("");
  #sparkline = sparkline();
  #node = element("small", { class: "node" });
  #cells;
  #stop;

  constructor({ id, path }, feed) {
    const name = shortId(id);
    const cell = (label, kind, ...content) =>
      element("td", { role: "cell", "data-label": label, class: kind }, ...content);
    this.#cells = ["Readers", "Tokens", "TTFT", "Tokens/s"].map((label) => cell(label, "number"));
    this.#stop = element("button", { type: "button", "aria-label": `Stop ${name}` }, "Stop");
    this.#stop.addEventListener("click", async () => {
      this.#stop.disabled = true;
      try {
        feed.put(await stop(id));
        announce(`${name} is stopped`);
      } catch (error) {
        announce(`${name} could not be stopped: ${error.message}`);
        this.#stop.disabled = false;
      }
    });
    const link = element("a", { href: `#/generation/${id}`, title: id }, name);
    const watch = element(
      "a",
      { href: `#/playground/${id}`, "aria-label": `Read ${name} in the playground` },
      "Read",
    );
    this.node = element(
      "tr",
      { role: "row" },
      element("th", { scope: "row", role: "rowheader" }, link, element("small", {}, path), this.#node),
      cell("State", "", this.#state.node),
      cell("Model", "", this.#model),
      ...this.#cells,
      cell("Between tokens", "", this.#sparkline.node),
      cell("", "actions", watch, this.#stop),
    );
  }

  show(row) {
    this.#state.show(row);
    this.#model.data = row.model ?? NONE;
    setText(this.#node, row.node ? `node ${shortName(row.node)}` : "");
    this.#node.hidden = !row.node;
    const { subscribers, usage, ttft_seconds, tokens_per_second } = row;
    const values = [
      count(subscribers),
      count(usage?.completion_tokens),
      duration(ttft_seconds),
      rate(tokens_per_second),
    ];
    values.forEach((value, index) => setText(this.#cells[index], value));
    this.#sparkline.show(row.recent_gaps);
    this.#stop.hidden = !isRunning(row);
  }
}

function missingIn(nodes) {
  if (nodes === undefined) return "";
  if (nodes === null) return "The other nodes cannot be asked: their broker is away.";
  if (nodes.length === 0) return "";
  return `${counted(nodes.length, "node")} did not answer: ${nodes.map(shortName).join(", ")}`;
}

function newestFirst(one, other) {
  return other.created_at - one.created_at;
}
