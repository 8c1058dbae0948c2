// Making and filling elements.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Attributes that are false or null are left out; functions are listeners. */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function drawn(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Set the text, unless it is the one that is there: what does not change is not read out again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The one place from which the page speaks to screen readers. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/** A function that calls `draw` in the next frame, however often it is called before that. */
export function inNextFrame(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  };
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
