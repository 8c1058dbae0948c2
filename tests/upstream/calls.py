"""Calls to an engine, as the rest of the proxy makes them."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.reading import Reading, read_to_end
from tests.upstream.engine import Engine, client_context
from trioproxy.fanout import Arrival, Feed, Source, open_hub
from trioproxy.upstream import Timeouts, Upstream, UpstreamRequest
from trioproxy.upstream.feed import EventFeed
from trioproxy.upstream.places import Places
from trioproxy.wire import OPENAI_COMPLETIONS, Tally

REQUEST = UpstreamRequest(
    "POST", b"/v1/completions", [(b"content-type", b"application/json")], b'{"n":1}'
)


def upstream_to(
    engine: Engine,
    *,
    url: str | None = None,
    timeouts: Timeouts | None = None,
    max_calls: float = math.inf,
    **settings: Any,
) -> Upstream:
    """The engine as an upstream, its certificate trusted. `settings` are those of `Upstream`."""
    return Upstream(
        url or engine.url(),
        timeouts=timeouts,
        ssl_context=client_context(),
        places=Places(max_calls),
        **settings,
    )


@asynccontextmanager
async def stream_of(
    upstream: Upstream, request: UpstreamRequest = REQUEST
) -> AsyncGenerator[EventFeed]:
    """A streaming call, in a place of its own."""
    tally = Tally(OPENAI_COMPLETIONS)
    async with upstream.place(), upstream.stream(request, OPENAI_COMPLETIONS, tally) as feed:
        yield feed


@asynccontextmanager
async def whole_of(upstream: Upstream) -> AsyncGenerator[Feed]:
    """The same for one whose answer is no stream."""
    async with upstream.place(), upstream.whole(REQUEST) as feed:
        yield feed


async def read(upstream: Upstream, request: UpstreamRequest = REQUEST) -> list[Arrival]:
    """Make a call, and read its stream to the end."""
    async with stream_of(upstream, request) as feed:
        return [arrival async for arrivals in feed for arrival in arrivals]


async def generate(source: Source) -> Reading:
    """Run the one generation of a hub, and read it to its end."""
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            return await read_to_end(subscriber)
