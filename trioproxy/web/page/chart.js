// The course of a generation: its events over time, and below them how long each reader was there.

import { drawn } from "./dom.js";
import { count, duration } from "./format.js";

const LEFT = 52;
const RIGHT = 12;
const TOP = 14;
const HEIGHT = 220; // of the events alone
const AXIS = 34;
const LANE = 18;
const MOST_LANES = 16;
const MOST_MARKS = 200;
const LONG = 4; // times the median

/** What of a timing the chart shows: gaps that stand out, and how far time and events reach. */
export function readTimeline({ timeline, readers, inter_token_seconds, duration_seconds }) {
  const usual = inter_token_seconds?.p50 ?? 0;
  const longGaps = [];
  for (let index = 1; index < timeline.length; index += 1) {
    const [seq, from] = timeline[index - 1];
    const to = timeline[index][1];
    if (usual > 0 && to - from > LONG * usual) longGaps.push({ seq, from, to });
  }
  const [lastSeq, lastSeconds] = timeline.at(-1) ?? [0, 0];
  const joined = readers.map((reader) => reader.left_seconds ?? reader.joined_seconds);
  const seconds = Math.max(duration_seconds ?? lastSeconds, ...joined, 0.001);
  return { longGaps, usual, lastSeq, lastSeconds, seconds };
}

/** An SVG of this width in pixels. What it shows is told in words beside it. */
export function chart(timing, { longGaps, lastSeq, seconds }, width) {
  const lanes = timing.readers.slice(0, MOST_LANES);
  const bottom = TOP + HEIGHT;
  const height = bottom + AXIS + (lanes.length > 0 ? lanes.length * LANE + 8 : 0);
  const right = width - RIGHT;
  const x = (at) => fixed(LEFT + (Math.min(at, seconds) / seconds) * (right - LEFT));
  const y = (seq) => fixed(bottom - (seq / Math.max(lastSeq, 1)) * HEIGHT);

  const grid = drawn("g", { class: "grid" });
  for (const at of ticks(seconds, width / 110)) {
    grid.append(
      drawn("line", { x1: x(at), x2: x(at), y1: TOP, y2: bottom }),
      text(x(at), bottom + 16, tickSeconds(at), "middle"),
    );
  }
  for (const seq of ticks(lastSeq, 4).filter(Number.isInteger)) {
    grid.append(
      drawn("line", { x1: LEFT, x2: right, y1: y(seq), y2: y(seq) }),
      text(LEFT - 8, Number(y(seq)) + 4, count(seq), "end"),
    );
  }

  const gaps = drawn("g", { class: "gaps" });
  for (const { seq, from, to } of longest(longGaps)) {
    gaps.append(
      drawn("rect", { x: x(from), width: fixed(x(to) - x(from)), y: TOP, height: HEIGHT }),
      drawn("line", { class: "gap", x1: x(from), x2: x(to), y1: y(seq), y2: y(seq) }),
    );
  }

  return drawn(
    "svg",
    { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    grid,
    gaps,
    drawn("path", { class: "events", d: steps(timing.timeline, x, y, right) }),
    ...mark(timing.ttft_seconds, x),
    ...lanes.map((reader, index) => lane(reader, index, bottom + AXIS + index * LANE, x, seconds)),
  );
}

function mark(ttft, x) {
  if (ttft === null) return [];
  const at = Number(x(ttft));
  return [
    drawn("line", { class: "ttft", x1: at, x2: at, y1: TOP, y2: TOP + HEIGHT }),
    text(at + 5, TOP + 10, `TTFT ${duration(ttft)}`, "start", "ttft"),
  ];
}

function lane(reader, index, top, x, seconds) {
  const middle = top + LANE / 2;
  const from = x(reader.joined_seconds);
  const to = x(reader.left_seconds ?? seconds);
  const group = drawn(
    "g",
    { class: "lane", "data-joining": reader.joining },
    text(LEFT - 8, middle + 4, `R${index + 1}`, "end"),
    drawn("line", { class: "there", x1: from, x2: to, y1: middle, y2: middle }),
  );
  if (reader.catch_up_seconds !== null) {
    const width = x(reader.joined_seconds + reader.catch_up_seconds) - from;
    // However short it was, it shall be seen.
    group.append(
      drawn("rect", {
        class: "catch-up", x: from, y: middle - 4, width: fixed(Math.max(width, 3)), height: 8,
      }),
    );
  }
  if (reader.left_seconds !== null) {
    group.append(drawn("line", { class: "left", x1: to, x2: to, y1: middle - 5, y2: middle + 5 }));
  }
  return group;
}

/** The path of the events: what does not move by a pixel is left out, for there may be 100,000. */
function steps(timeline, x, y, right) {
  let path = "";
  let drawnX = null;
  let lastY = null;
  for (const [seq, at] of timeline) {
    const here = Number(x(at));
    if (drawnX === null) path += `M${here},${y(seq)}`;
    else if (here - drawnX >= 0.5) path += `V${lastY}H${here}V${y(seq)}`;
    if (drawnX === null || here - drawnX >= 0.5) drawnX = here;
    lastY = y(seq);
  }
  return lastY === null ? "" : `${path}V${lastY}H${Math.min(drawnX + 1, right)}`;
}

function longest(gaps) {
  return gaps.toSorted((one, other) => width(other) - width(one)).slice(0, MOST_MARKS);
}

function width({ from, to }) {
  return to - from;
}

/** Round numbers from 0 to `most`, about `wanted` of them. */
function ticks(most, wanted) {
  if (most <= 0) return [0];
  const raw = most / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, index) => index * step);
}

function tickSeconds(at) {
  return `${Number(at.toPrecision(4))} s`;
}

function text(x, y, content, anchor, kind) {
  return drawn("text", { x, y, "text-anchor": anchor, class: kind }, content);
}

function fixed(number) {
  return number.toFixed(1);
}
