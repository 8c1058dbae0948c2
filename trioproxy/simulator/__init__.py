"""A simulated engine: it streams tokens as an OpenAI-compatible engine does, and fails as one.

    async with open_engine(settings=EngineSettings(rate=100)) as engine:
        ...  # POST {engine.url}/v1/completions

It is an HTTP/1.1 server of its own, for trying, testing and measuring on a machine that has no
engine:

* `POST /v1/completions` and `POST /v1/chat/completions`, as a stream and whole. Of the body it
  honours `model`, `max_tokens` (in a chat also `max_completion_tokens`), `n`, `seed`, `stream` and
  `stream_options.include_usage`. An answer has exactly as many tokens as were asked for, each in an
  event of its own, and ends for the reason `length`.
* `GET /v1/models`, `GET /health`, and `GET /stats`: how many generation calls came and how they
  ended.
* `GET /calls`: the last 10,000 generation calls, oldest first, each with its `prompt` (of a chat,
  the last message's text; "" if the body makes no sense), its `outcome` (`active`, `completed`,
  `aborted`, `refused`, `failed`, `cancelled`), `began_unix_ns` and `ended_unix_ns` (the wall clock
  in nanoseconds; null while it is active). `DELETE /calls` forgets those that have ended and
  answers how many: `{"forgotten": 3}`. The counts of `/stats` go on.

A client that leaves is seen to leave at once, and its call is counted as aborted. A request asks
for trouble, or for another pace, in its headers:

| header | effect |
|---|---|
| `x-sim-fail: before` | HTTP 500 instead of an answer |
| `x-sim-fail: mid` | half of the tokens, an error event, then the body ends and the connection |
| `x-sim-fail: truncate` | half of the tokens, then the body ends properly, without `[DONE]` |
| `x-sim-fail: cut` | half of the tokens, then the socket is closed without the last chunk |
| `x-sim-fail: stall` | half of the tokens, then silence until the client leaves |
| `x-sim-status: 429` | this status, 400 to 599, instead of an answer |
| `x-sim-retry-after: 7` | the `retry-after` header of such a refusal, as it is |
| `x-sim-rate`, `x-sim-ttft`, `x-sim-tokens` | instead of what the settings and the body say |

Without `stream`, the JSON comes when a stream would have ended; `mid` is then HTTP 500 at half
time, `truncate` half of the JSON as a whole body, `cut` half of the announced body, `stall` no
answer. A value that makes no sense, or an `x-sim-` header that is not in the table, is refused with
400 and named as the error's `param`.
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
