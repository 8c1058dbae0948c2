// An EventSource (npm) for each URL, left alone until it has closed itself.

import { EventSource } from "eventsource";

import { parameters, report } from "./program.mjs";

const { urls, names } = parameters;

function readToEnd(url) {
  return new Promise((resolve) => {
    const source = new EventSource(url);
    const events = [];
    for (const name of names) {
      source.addEventListener(name, (event) => {
        events.push([event.lastEventId, event.type, event.data]);
      });
    }
    source.addEventListener("error", (event) => {
      if (source.readyState === EventSource.CLOSED) resolve({ events, code: event.code });
    });
  });
}

report(await Promise.all(urls.map(readToEnd)));
