// Stream an answer with an official SDK, once for each of `headers`, one after the other.

import { attempt, parameters, report } from "./program.mjs";
import { APIS } from "./sdks.mjs";

const { api, url, headers, prompt } = parameters;
const results = [];
for (const set of headers) results.push(await attempt(APIS[api](url, set, prompt)));
report(results);
