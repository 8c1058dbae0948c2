"""A curl for event streams: read them as a client does, and tell how their tokens flow.

What it looks for is the proxy that buffers. Behind one no token is lost and the last comes no later,
but they come in bunches: a reader sees nothing, and then a page. In the figures, tokens arrive
together and the gaps between reads grow.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trioproxy.wire import ROUTES, Dialect, EventTooLarge, SSEParser, Verdict, dialect_for

_COMPLETIONS = "/v1/completions"
_COMPLETION_BODY = b'{"prompt": "Hello", "max_tokens": 64, "stream": true}'
_MAX_EVENT_BYTES = 16 << 20

_TOGETHER = 0.001  # seconds
_BUNCHED_SHARE = 0.5
_FEWEST_TOKENS = 4  # fewer say nothing about how they flow

_PROGRESS_INTERVAL = 0.1  # seconds
_MAX_ROWS = 20
_MAX_DETAIL_BYTES = 200


class Ending(StrEnum):
    """How a stream ended."""

    COMPLETED = "completed"  # with its terminal event, such as [DONE]
    TRUNCATED = "ended without a terminal event"
    ERROR_EVENT = "error event"
    REFUSED = "refused"  # a status other than 2xx
    BROKEN = "connection error"


class Arrival(NamedTuple):
    """A chunk of the body that completed events: when it came, and how many.

    `tokens` are those of the events that carry generated text.
    """

    at: float
    events: int
    tokens: int


@dataclass(slots=True)
class Trace:
    """What happens on one stream while it is read. Times are in seconds, on any one clock."""

    started: float
    status: int | None = None
    head_at: float | None = None
    arrivals: list[Arrival] = field(default_factory=list[Arrival])
    bytes: int = 0
    ending: Ending = Ending.TRUNCATED
    detail: str = ""
    ended: float = math.nan


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured of one stream. Times are in seconds, from the start of the request.

    Attributes:
        status: of the response; None where none came.
        ending: how the stream ended, and `detail` what was said about that.
        head: until the head of the response; None where none came.
        ttft: until the first event; None where none came.
        duration: until the end.
        bytes: of the body.
        events: messages with data, the terminal one among them.
        tokens: events that carry text. In a stream without any, every event counts.
        rate: tokens per second from the first to the last; None where no time passed between them.
        gap_p50, gap_p99, gap_max: seconds from a token to the next, 0 within one chunk; percentiles
            by the nearest rank. None for fewer tokens than two.
        reads: how many times tokens came. A chunk that comes within 1 ms of the one before is of
            the same read, because the HTTP chunks of one read are handed out one after the other.
        bunched: the share, 0 to 1, of the tokens that shared their read with another.
        largest_burst: the most tokens in one read.
    """

    status: int | None
    ending: Ending
    detail: str
    head: float | None
    ttft: float | None
    duration: float
    bytes: int
    events: int
    tokens: int
    rate: float | None
    gap_p50: float | None
    gap_p99: float | None
    gap_max: float | None
    reads: int
    bunched: float
    largest_burst: int

    @property
    def is_bunched(self) -> bool:
        """Whether most tokens shared their read, and there were enough of them to tell."""
        return self.tokens >= _FEWEST_TOKENS and self.bunched > _BUNCHED_SHARE


def measure(trace: Trace) -> Report:
    """Return the figures of a stream that has ended."""
    has_text = any(arrival.tokens for arrival in trace.arrivals)
    counts = [
        (arrival.at, tokens)
        for arrival in trace.arrivals
        if (tokens := arrival.tokens if has_text else arrival.events)
    ]
    times = [at for at, tokens in counts for _ in range(tokens)]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    span = times[-1] - times[0] if times else 0.0
    bursts = _bursts(times)
    return Report(
        status=trace.status,
        ending=trace.ending,
        detail=trace.detail,
        head=None if trace.head_at is None else trace.head_at - trace.started,
        ttft=trace.arrivals[0].at - trace.started if trace.arrivals else None,
        duration=trace.ended - trace.started,
        bytes=trace.bytes,
        events=sum(arrival.events for arrival in trace.arrivals),
        tokens=len(times),
        rate=(len(times) - 1) / span if span else None,
        gap_p50=_percentile(gaps, 50),
        gap_p99=_percentile(gaps, 99),
        gap_max=gaps[-1] if gaps else None,
        reads=len(bursts),
        bunched=sum(burst for burst in bursts if burst > 1) / len(times) if times else 0.0,
        largest_burst=max(bursts, default=0),
    )


async def probe(
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    count: int = 1,
    timeout: float = 120.0,
    console: Console | None = None,
) -> list[Report]:
    """Open `count` streams at once, read each to its end, and return a report of each.

    A URL without a path, or with `/`, means the completions endpoint on it; `http://` may be left
    out. Without a body, a path that ends in `/events` is fetched with GET, and any other is sent a
    POST that asks for 64 tokens. `timeout` is seconds of silence, connecting included, after which
    a stream counts as broken. While it runs, progress is shown on the console (stdout) if that is a
    terminal.

    Nothing that a server does is an error here: it is in the reports. If cancelled, all connections
    are closed and there are no reports.
    """
    target = _target(url)
    path = urlsplit(target).path
    method = "GET" if body is None and path.endswith("/events") else "POST"
    content = _COMPLETION_BODY if body is None and method == "POST" else body
    fields = httpx.Headers({"accept": "text/event-stream", "accept-encoding": "identity"})
    if content is not None:
        fields["content-type"] = "application/json"
    fields.update(headers)
    dialect = dialect_for(path)
    dialects = list(ROUTES.values()) if dialect is None else [dialect]
    traces: list[Trace] = []

    async def read_one(client: httpx.AsyncClient) -> None:
        trace = Trace(trio.current_time())
        traces.append(trace)
        try:
            request = client.build_request(method, target, headers=fields, content=content)
            await _read(client, request, dialects, trace)
        except (httpx.HTTPError, httpx.InvalidURL, EventTooLarge) as error:
            ...
