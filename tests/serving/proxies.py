"""The whole proxy in front of a simulated engine, in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from trio.testing import wait_all_tasks_blocked

from tests.support.rawhttp import RawClient
from tests.support.sse import SseEvent
from trioproxy.config import Settings
from trioproxy.serving import Proxy, open_proxy
from trioproxy.simulator import EngineSettings, SimulatedEngine, open_engine

PATH = "/v1/completions"
STREAM = {"prompt": "The river", "stream": True}

ENDLESS = {"x-sim-tokens": "1000000"}
"""Headers of a request whose answer nobody will see the end of, at the engine's own rate."""

BACKLOG = {"x-sim-tokens": "4000", "x-sim-rate": "0"}
"""Headers of a request whose answer is there at once, and more than the kernel keeps for a client
with a small buffer."""


@asynccontextmanager
async def open_simulated(
    engine_settings: EngineSettings | None = None, **settings: Any
) -> AsyncGenerator[tuple[Proxy, SimulatedEngine]]:
    """Open an engine and a proxy in front of it, with ``settings`` over the defaults."""
    async with (
        open_engine(settings=engine_settings or EngineSettings()) as engine,
        open_proxy(
            Settings(**{"bind": "127.0.0.1:0", "upstream": engine.url, **settings}),
            upstream_url=engine.url,
        ) as proxy,
    ):
        await wait_all_tasks_blocked()  # so that a census of the tasks finds all of the proxy's
        yield proxy, engine


async def read_events(client: RawClient) -> list[SseEvent]:
    """Every event up to the end of the body, be it proper or a cut."""
    events: list[SseEvent] = []
    while (event := await client.next_event()) is not None:
        events.append(event)
    return events
