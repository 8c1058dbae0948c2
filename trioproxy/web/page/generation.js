// Generation: when each token came, and who read them when.

import { chart, readTimeline } from "./chart.js";
import { announce, element, setText } from "./dom.js";
import { count, counted, duration, NONE, rate, share, shortId, shortName, size } from "./format.js";
import { askJson, generationPath, sleep, stop } from "./proxy.js";
import { isRunning, stateMark } from "./state.js";

const REFRESH_SECONDS = 1;
const MOST_READERS = 200;

const NUMBERS = [
  ["TTFT", (timing) => duration(timing.ttft_seconds)],
  ["Tokens", (timing) => count(timing.tokens)],
  ["Tokens/s", (timing) => rate(timing.tokens_per_second)],
  ["Inter-token p50", (timing) => duration(timing.inter_token_seconds?.p50)],
  ["Inter-token p90", (timing) => duration(timing.inter_token_seconds?.p90)],
  ["Inter-token p99", (timing) => duration(timing.inter_token_seconds?.p99)],
  ["Inter-token max", (timing) => duration(timing.inter_token_seconds?.max)],
  ["Burst share", (timing) => share(timing.burst_share)],
  ["Connect", (timing) => duration(timing.connect_seconds)],
  ["Head", (timing) => duration(timing.head_seconds)],
  ["Duration", (timing) => duration(timing.duration_seconds)],
  ["Cancel to closed", (timing) => duration(timing.cancel_to_closed_seconds)],
];

const READER_COLUMNS = [
  ["Joined", (reader) => `${reader.joining}, at ${duration(reader.joined_seconds)}`],
  ["After", (reader) => count(reader.joined_after)],
  ["History to", (reader) => count(reader.history)],
  ["First event", (reader) => duration(reader.first_event_seconds)],
  ["Caught up", (reader) => duration(reader.catch_up_seconds)],
  ["Cursor", (reader) => count(reader.cursor)],
  ["Deliveries", (reader) => count(reader.deliveries)],
  ["Delay, mean", (reader) => duration(reader.mean_delay_seconds)],
  ["Delay, max", (reader) => duration(reader.max_delay_seconds)],
  ["Lag, max", (reader) => size(reader.max_lag_bytes)],
  ["Left", (reader) => leftAs(reader)],
];

export class GenerationView {
  title = "Generation";

  #id = null;
  #row = null;
  #timing = null;
  #looking = null;
  #state = stateMark();
  #model = element("span", { class: "hint" });
  #notice = element("p", { class: "notice" });
  #stop = element("button", { type: "button", class: "stop", click: () => this.#stopIt() }, "Stop");
  #values = NUMBERS.map(([label, read]) => {
    const value = element("dd", {}, NONE);
    return { read, value, node: element("div", {}, element("dt", {}, label), value) };
  });
  #drawing = element("div", { class: "drawing" });
  #caption = element("figcaption", { id: "chart-words" });
  #readers = element("tbody", { role: "rowgroup" });
  #nobody = element("p", { class: "empty" }, "Nobody has read it yet.");
  #more = element("p", { class: "hint" });
  #resized = new ResizeObserver(() => this.#drawChart());

  show(main, id) {
    this.#id = id ?? "";
    this.#row = this.#timing = null;
    this.#drawing.replaceChildren();
    this.#readers.replaceChildren();
    setText(this.#caption, "");
    setText(this.#notice, "");
    this.#stop.hidden = true;
    const heads = ["Reader", ...READER_COLUMNS.map(([name]) => name)].map((name) =>
      element("th", { scope: "col", role: "columnheader" }, name),
    );
    main.replaceChildren(
      element("h1", { tabindex: -1 }, "Generation ", element("code", {}, shortId(this.#id))),
      element("p", { class: "standing" }, this.#state.node, this.#model, this.#stop),
      this.#notice,
      element("dl", { class: "numbers" }, ...this.#values.map(({ node }) => node)),
      element(
        "figure",
        { role: "group", "aria-labelledby": "chart-words" },
        this.#drawing,
        this.#caption,
      ),
      element("h2", {}, "Readers"),
      element(
        "table",
        { class: "readers", role: "table", "aria-label": "Readers" },
        element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)),
        this.#readers,
      ),
      this.#more,
      this.#nobody,
    );
    this.#resized.observe(this.#drawing);
    this.#looking = new AbortController();
    this.#look(this.#looking.signal).catch(() => null);
  }

  hide() {
    this.#looking.abort();
    this.#resized.disconnect();
  }

  async #look(signal) {
    let isLast = false;
    for (;;) {
      try {
        const path = generationPath(this.#id);
        this.#row = await askJson(path, { signal });
        const timing = await askJson(`${path}/timing`, { signal });
        // A reader keeps its number, whatever order they are told in.
        timing.readers.sort((one, other) => one.joined_seconds - other.joined_seconds);
        this.#timing = timing;
        setText(this.#notice, "");
        this.#draw();
        // How long closing took is known a moment after the end.
        if (isLast) return;
        isLast = !isRunning(this.#row);
      } catch (error) {
        signal.throwIfAborted();
        setText(this.#notice, `It cannot be looked at: ${error.message}`);
        this.#notice.hidden = false;
        if (error.status !== undefined && !error.mayPass) return;
      }
      await sleep(REFRESH_SECONDS, signal);
    }
  }

  async #stopIt() {
    try {
      await stop(this.#id);
      announce("The generation is stopped for everyone");
    } catch (error) {
      announce(`It could not be stopped: ${error.message}`);
    }
  }

  #draw() {
    const row = this.#row;
    const timing = this.#timing;
    this.#notice.hidden = true;
    this.#state.show(row);
    this.#stop.hidden = !isRunning(row);
    setText(this.#model, [timing.model, row.path, row.node && `node ${shortName(row.node)}`].filter(Boolean).join(", "));
    for (const { read, value } of this.#values) setText(value, read(timing));
    this.#drawReaders(timing.readers);
    this.#drawChart();
  }

  #drawReaders(readers) {
    this.#nobody.hidden = readers.length > 0;
    const more = readers.length - MOST_READERS;
    setText(this.#more, more > 0 ? `and ${count(more)} more` : "");
    const rows = readers.slice(0, MOST_READERS).map((reader, index) =>
      element(
        "tr",
        { role: "row" },
        element("th", { scope: "row", role: "rowheader" }, `R${index + 1}`),
        ...READER_COLUMNS.map(([label, read]) =>
          element("td", { role: "cell", "data-label": label, class: "number" }, read(reader)),
        ),
      ),
    );
    this.#readers.replaceChildren(...rows);
  }

  #drawChart() {
    const timing = this.#timing;
    const width = Math.floor(this.#drawing.clientWidth);
    if (timing === null || width === 0) return;
    const timeline = readTimeline(timing);
    this.#drawing.replaceChildren(chart(timing, timeline, width));
    setText(this.#caption, inWords(timing, timeline));
  }
}

function leftAs({ left_seconds, why }) {
  if (left_seconds === null) return "not yet";
  return `${why ?? "left"}, at ${duration(left_seconds)}`;
}

/** The chart for those who do not see it, and what it means for those who do. */
function inWords({ ttft_seconds, readers }, { longGaps, usual, lastSeq, lastSeconds }) {
  if (lastSeq === 0) return "Events over time. None has come yet.";
  const said = [`Events over time: ${count(lastSeq)} in ${duration(lastSeconds)}`];
  if (ttft_seconds !== null) said[0] += `, the first token after ${duration(ttft_seconds)}`;
  if (longGaps.length > 0) {
    const worst = longGaps.reduce((one, other) =>
      other.to - other.from > one.to - one.from ? other : one,
    );
    const gaps = counted(longGaps.length, "gap is", "gaps are");
    said.push(
      `${gaps} over 4 times the median of ${duration(usual)} (shaded); ` +
        `the longest, ${duration(worst.to - worst.from)}, after event ${count(worst.seq)}`,
    );
  } else if (usual > 0) {
    said.push(`No gap is over 4 times the median of ${duration(usual)}`);
  }
  if (readers.length > 0) {
    said.push("Below, a line for each reader while it was there, thick while it caught up");
  }
  return `${said.join(". ")}.`;
}
