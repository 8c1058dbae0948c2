"""Reading streams over HTTP, and noting when what came."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import cast

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
    max_silence: float = 120.0,
    console: Console | None = None,
) -> list[Report]:
    """Open `count` streams at once, read each to its end, and return a report of each.

    A URL without a path, or with `/`, means the completions endpoint on it; `http://` may be left
    out. Without a body, a path that ends in `/events` is fetched with GET, and any other is sent a
    POST that asks for 64 tokens. A stream on which nothing comes for `max_silence` seconds is given
    up. While it runs, progress is shown on the console (stdout) if that is a terminal.

    Whatever the server does, and an address at which there is none, is told by the reports. Raises
    `ValueError` for what is no HTTP URL, and for a header that is not ASCII. If it is cancelled,
    all connections are closed and there is no report.
    """
    target = _target(url)
    method = "GET" if body is None and target.path.endswith("/events") else "POST"
    content = _COMPLETION_BODY if body is None and method == "POST" else body
    fields = httpx.Headers({"accept": "text/event-stream", "accept-encoding": "identity"})
    if content is not None:
        fields["content-type"] = "application/json"
    fields.update(headers)
    dialect = dialect_for(target.path)
    dialects = ROUTES.values() if dialect is None else [dialect]
    traces = [Trace() for _ in range(count)]
    async with (
        httpx.AsyncClient(
            trust_env=False,
            timeout=httpx.Timeout(max_silence, connect=_CONNECT_TIMEOUT, pool=None),
            limits=httpx.Limits(max_connections=None),
        ) as client,
        trio.open_nursery() as nursery,
    ):
        request = partial(client.stream, method, target, headers=fields, content=content)
        nursery.start_soon(show_progress, console or Console(), traces)
        async with trio.open_nursery() as streams:
            for trace in traces:
                streams.start_soon(_read, request, dialects, trace)
        nursery.cancel_scope.cancel()
    return [measure(trace) for trace in traces]


def _target(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url if "://" in url else f"http://{url}")
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {url!r} ({error})") from error
    if target.scheme not in ("http", "https") or not target.host:
        raise ValueError(f"not an HTTP URL: {url!r}")
    return target.copy_with(path=_COMPLETIONS) if target.path == "/" else target


async def _read(
    request: Callable[[], AbstractAsyncContextManager[httpx.Response]],
    dialects: Collection[Dialect],
    trace: Trace,
) -> None:
    """Make one request, and note in the trace what comes of it."""
    trace.started = trio.current_time()
    try:
        async with request() as response:
            trace.status = response.status_code
            trace.head_at = trio.current_time()
            # An async generator of httpx's, though its annotation says less.
            raw = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
            async with aclosing(raw) as chunks:
                if response.is_success:
                    await _read_events(chunks, dialects, trace)
                else:
                    await _read_refusal(chunks, trace)
    except httpx.HTTPError as error:
        _end(trace, Ending.BROKEN, f"{type(error).__name__} {error}".rstrip())
    trace.ended = trio.current_time()


async def _read_events(
    chunks: AsyncGenerator[bytes, None], dialects: Collection[Dialect], trace: Trace
) -> None:
    parser = SSEParser(_MAX_EVENT_BYTES)
    async for chunk in chunks:
        trace.bytes += len(chunk)
        try:
            _note(parser.feed(chunk), dialects, trace)
        except EventTooLarge as error:
            # Read on regardless: httpx's generators can only be left at their end, as `aclosing`
            # does not reach those inside. The parser is dead and says this again for each chunk.
            _end(trace, Ending.BROKEN, str(error))
    if trace.ending is Ending.TRUNCATED and (last := parser.finish()) is not None:
        _note([last], dialects, trace)
    if not trace.arrivals:
        _end(trace, Ending.TRUNCATED, "a body without events")


async def _read_refusal(chunks: AsyncGenerator[bytes, None], trace: Trace) -> None:
    head = bytearray()
    async for chunk in chunks:
        trace.bytes += len(chunk)
        head += chunk[: _MAX_DETAIL_BYTES - len(head)]
    _end(trace, Ending.REFUSED, _text_of(head))


def _note(messages: Sequence[Message], dialects: Collection[Dialect], trace: Trace) -> None:
    if not messages:
        return
    tokens = sum(any(dialect.text(message) for dialect in dialects) for message in messages)
    trace.arrivals.append(Arrival(trio.current_time(), len(messages), tokens))
    for message in messages:
        verdicts = {dialect.verdict(message) for dialect in dialects}
        if Verdict.FAILED in verdicts:
            _end(trace, Ending.FAILED, _text_of(message.data[:_MAX_DETAIL_BYTES]))
        elif Verdict.COMPLETED in verdicts:
            _end(trace, Ending.COMPLETED)


def _end(trace: Trace, ending: Ending, detail: str = "") -> None:
    """Note how the stream ended. The first word on that stands."""
    if trace.ending is Ending.TRUNCATED:
        trace.ending, trace.detail = ending, detail


def _text_of(data: bytes | bytearray) -> str:
    return data.decode(errors="replace")
