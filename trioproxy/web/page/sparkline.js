// The last times between tokens, as a line no taller than a word.

import { drawn } from "./dom.js";
import { counted, duration, median } from "./format.js";

const WIDTH = 96;
const HEIGHT = 20;
const MOST = 32;

export function sparkline() {
  const line = drawn("polyline");
  const node = drawn(
    "svg",
    { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" },
    line,
  );
  const show = (gaps) => {
    const longest = Math.max(...gaps, Number.EPSILON);
    const top = Math.max(longest, 2 * (median(gaps) ?? 0)); // an even flow runs along the middle
    const points = gaps.map((gap, index) => {
      const x = WIDTH - 1 - (gaps.length - 1 - index) * ((WIDTH - 2) / (MOST - 1));
      return `${x.toFixed(1)},${(HEIGHT - 2 - (gap / top) * (HEIGHT - 4)).toFixed(1)}`;
    });
    node.toggleAttribute("hidden", gaps.length === 0);
    line.setAttribute("points", points.join(" "));
    node.setAttribute("aria-label", inWords(gaps, longest));
  };
  return { node, show };
}

function inWords(gaps, longest) {
  if (gaps.length === 0) return "no times between tokens yet";
  const middle = duration(median(gaps));
  return `last ${counted(gaps.length, "gap")}: median ${middle}, longest ${duration(longest)}`;
}
