"""Reading streams over HTTP and noting when what came."""

from collections.abc import Collection, Mapping
from contextlib import aclosing
from urllib.parse import urlsplit

import httpx
import trio
from rich.console import Console

from trioproxy.probe.display import show_progress
from trioproxy.probe.report import Arrival, Ending, Report, Trace, measure
from trioproxy.wire import (
    ROUTES,
    Dialect,
    EventTooLarge,
    Message,
    SSEParser,
    Verdict,
    dialect_for,
)

_COMPLETIONS = "/v1/completions"
_COMPLETION_BODY = b'{"prompt": "Hello", "max_tokens": 64, "stream": true}'
_CONNECT_TIMEOUT = 5.0  # seconds
_MAX_EVENT_BYTES = 16 << 20
_MAX_DETAIL_BYTES = 200


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
    POST that asks for 64 tokens. A stream in which nothing comes for `timeout` seconds counts as
    broken. While it runs, progress is shown on the console (stdout) if that is a terminal.

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
    reader = _Reader(method, target, fields, content)
    dialects = ROUTES.values() if dialect is None else [dialect]
    traces: list[Trace] = []
