"""A simulated engine: it streams tokens as the engines of several APIs do, and fails as they do.

    async with open_engine(settings=EngineSettings(rate=100)) as engine:
        ...  # POST {engine.url}/v1/completions

It is an HTTP/1.1 server of its own, for trying, testing and measuring on a machine that has no
engine. It answers a POST as a stream and whole:

| route | API | honoured in the body | a stream ends with |
|---|---|---|---|
| `/v1/completions` | OpenAI | `prompt`, `max_tokens`, `n`, `stream_options` | `[DONE]` |
| `/v1/chat/completions` | OpenAI | `messages`, `max_completion_tokens`, and as above | `[DONE]` |
| `/v1/responses` | OpenAI | `input`, `instructions`, `max_output_tokens` | `response.completed` |
| `/v1/messages` | Anthropic | `messages`, `system`, `max_tokens` | `message_stop` |
| `/completion` | llama.cpp | `prompt`, `n_predict` | `"stop": true` |
| `/api/generate` | Ollama | `prompt`, `system`, `options.num_predict` | `"done": true` |
| `/api/chat` | Ollama | `messages`, `options.num_predict` | `"done": true` |

Each honours `model`, `stream` and `seed` too (Ollama's is in the `options`). A stream is lines of
JSON at Ollama's routes, which stream unless `stream` is false; it is server-sent events elsewhere,
where `stream` must be true. An answer has exactly as many tokens as were asked for, each in an
event or a line of its own, and tells that their number ended it; only a response is `completed`, as
at llama.cpp. Anthropic's `max_tokens` is required, unless `x-sim-tokens` is there. Errors have the
shape of the route's API, and OpenAI's where there is none.

It also answers:

* `GET /v1/models`, `GET /api/tags` and `GET /api/version`, `GET /health`, and `GET /stats`: how
  many generation calls came and how they ended.
* `GET /calls`: the last 10,000 generation calls, oldest first, each with its `prompt` (of a
  conversation, the last message's text; "" if the body makes no sense), its `outcome` (`active`,
  `completed`, `aborted`, `refused`, `failed`, `cancelled`), `began_unix_ns` and `ended_unix_ns`
  (the wall clock in nanoseconds; null while it is active). `DELETE /calls` forgets those that have
  ended and answers how many: `{"forgotten": 3}`. The counts of `/stats` go on.

A client that leaves is seen to leave at once, and its call is counted as aborted. A request asks
for trouble, or for another pace, in its headers:

| header | effect |
|---|---|
| `x-sim-fail: before` | HTTP 500 instead of an answer |
| `x-sim-fail: mid` | half of the tokens, the API's error, then the body ends and the connection |
| `x-sim-fail: truncate` | half of the tokens, then the body ends properly, without the API's end |
| `x-sim-fail: cut` | half of the tokens, then the socket is closed without the last chunk |
| `x-sim-fail: stall` | half of the tokens, then silence until the client leaves |
| `x-sim-status: 429` | this status, 400 to 599, instead of an answer |
| `x-sim-retry-after: 7` | the `retry-after` header of such a refusal, as it is |
| `x-sim-rate`, `x-sim-ttft`, `x-sim-tokens` | instead of what the settings and the body say |
| `x-sim-numbered: false` | no `sequence_number` in a response's events, as llama.cpp sends them |

Without a stream, the JSON comes when a stream would have ended; `mid` is then HTTP 500 at half
time, `truncate` half of the JSON as a whole body, `cut` half of the announced body, `stall` no
answer. A value that makes no sense, or an `x-sim-` header that is not in the table, is refused with
400 and named in the error, as its `param` where the API has one.
"""

from trioproxy.simulator.engine import Call, EngineSettings, Outcome, SimulatedEngine, Stats
from trioproxy.simulator.server import open_engine, simulate
from trioproxy.simulator.text import generate_text

__all__ = [
    "Call",
    "EngineSettings",
    "Outcome",
    "SimulatedEngine",
    "Stats",
    "generate_text",
    "open_engine",
    "simulate",
]
