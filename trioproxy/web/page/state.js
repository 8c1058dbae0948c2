// How a generation stands, in words. A sign goes with the colour, which alone tells nobody.

import { element } from "./dom.js";

const SIGNS = { running: "●", completed: "✓", failed: "✕", cancelled: "■" };

export function isRunning(row) {
  return row.state === "running";
}

export function stateOf(row) {
  if (isRunning(row)) return "running";
  const { kind, reason } = row.outcome;
  return reason && kind !== "completed" ? `${kind}: ${reason}` : kind;
}

export function stateMark() {
  const sign = element("span", { "aria-hidden": "true" });
  const word = document.createTextNode("");
  const node = element("span", { class: "state" }, sign, word);
  const show = (row) => {
    const kind = isRunning(row) ? "running" : row.outcome.kind;
    node.dataset.kind = kind;
    sign.textContent = `${SIGNS[kind] ?? "?"} `;
    word.data = stateOf(row);
  };
  return { node, show };
}
