// The page: three views, one at a time, named by the hash.

import { GenerationView } from "./generation.js";
import { Live } from "./live.js";
import { Playground } from "./playground.js";
import { apiKey, useApiKey } from "./proxy.js";

const main = document.getElementById("main");
const links = [...document.querySelectorAll("nav a")];
const views = { live: new Live(), playground: new Playground(), generation: new GenerationView() };

let shown = null;

function route() {
  const [, name, id] = location.hash.split("/");
  if (!(name in views)) {
    location.replace("#/live");
    return;
  }
  const isFirst = shown === null;
  shown?.hide();
  shown = views[name];
  shown.show(main, id && decodeURIComponent(id));
  document.title = `${shown.title} – trioproxy`;
  for (const link of links) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // A screen reader goes on where the new view begins, as it does on a new page.
  if (!isFirst) main.querySelector("h1").focus();
}

const field = document.getElementById("key-field");
field.value = apiKey();
document.getElementById("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useApiKey(field.value.trim());
  route(); // the same view, in another name
});

addEventListener("hashchange", route);
route();
