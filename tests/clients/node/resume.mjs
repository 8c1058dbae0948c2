// POSTs whose streams are read to their end, however often they break: each time the same request
// is sent again, with the id of the last event that came. `client` is what does it: Node's own
// fetch, or fetch-event-source, which was made for browsers.

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { createParser } from "eventsource-parser";

import { parameters, report } from "./program.mjs";

globalThis.window = globalThis;
globalThis.document = new EventTarget();

function request({ headers, body }) {
  const fields = { "content-type": "application/json", ...headers };
  return { method: "POST", headers: fields, body: JSON.stringify(body) };
}

async function withFetch(call) {
  const events = [];
  const init = request(call);
  const parser = createParser({
    onEvent: (event) => events.push([event.id, event.event ?? "message", event.data]),
  });
  for (;;) {
    const response = await fetch(call.url, init);
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
    const decoder = new TextDecoder();
    parser.reset();
    try {
      for await (const piece of response.body) {
        parser.feed(decoder.decode(piece, { stream: true }));
      }
      return events;
    } catch (error) {
      if (error.message !== "terminated") throw error;
      init.headers["last-event-id"] = events.at(-1)[0];
    }
  }
}

async function withFetchEventSource(call) {
  const events = [];
  await fetchEventSource(call.url, {
    ...request(call),
    openWhenHidden: true,
    onmessage: (event) => {
      if (event.data) events.push([event.id, event.event || "message", event.data]);
    },
    onerror: (error) => {
      if (error.message !== "terminated") throw error;
      return 1; // milliseconds
    },
  });
  return events;
}

const CLIENTS = { fetch: withFetch, "fetch-event-source": withFetchEventSource };

report(await Promise.all(parameters.calls.map(CLIENTS[parameters.client])));
