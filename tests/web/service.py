"""The whole proxy on a loopback socket, and a client that trusts nothing but HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import trio

from tests.support.rawhttp import RawClient, open_client
from tests.support.sse import SseEvent
from trioproxy.config import Settings
from trioproxy.serving import Proxy, open_proxy
from trioproxy.simulator import EngineSettings, SimulatedEngine, open_engine

WITHIN = 10.0
"""Seconds that a condition may take to come true: far more than any needs."""

FAST = EngineSettings(rate=0, ttft=0, tokens=8)

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

COMPLETION: dict[str, Any] = {"prompt": "The river", "stream": True}
"""The body of a call that streams as many tokens as the engine's settings say."""

NOBODY_THERE = "http://127.0.0.1:1"
"""An upstream that refuses every connection."""

SLOWLY = {"x-sim-rate": "100", "x-sim-tokens": "100"}
"""Headers that make the simulated engine take a second, for who joins or leaves meanwhile."""

HALF_OF_EIGHT_THEN_SILENCE = {"x-sim-fail": "stall", "x-sim-tokens": "8"}
"""Headers that make it send four events and no more, until its client leaves."""


@dataclass(frozen=True)
class Service:
    """A proxy that listens at ``url``; ``http`` is a client of it that follows nothing by
    itself."""

    url: str
    proxy: Proxy
    http: httpx.AsyncClient

    @asynccontextmanager
    async def ask(
        self,
        body: object = COMPLETION,
        *,
        path: str = COMPLETIONS,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[RawClient]:
        """POST ``body`` (JSON, unless it is bytes) on a connection of its own; nothing is awaited
        of the answer."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with open_client(self.url) as client:
            await client.request("POST", path, headers=headers, body=payload)
            yield client

    @asynccontextmanager
    async def get(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[RawClient]:
        """The same for GET."""
        async with open_client(self.url) as client:
            await client.request("GET", path, headers=headers)
            yield client

    async def describe(self, generation_id: str) -> dict[str, Any]:
        """The generation as ``GET /v1/generations/{id}`` shows it to who has no credentials."""
        response = await self.http.get(f"/v1/generations/{generation_id}")
        assert response.status_code == 200, response.text
        return response.json()

    async def ended(self, generation_id: str, *, within: float = WITHIN) -> dict[str, Any]:
        """The outcome of the generation, as soon as it has one."""
        with trio.fail_after(within):
            while (shown := await self.describe(generation_id))["state"] == "running":
                await trio.sleep(0.005)
        return shown["outcome"]

    async def wait_released(self, *, within: float = WITHIN) -> None:
        """Wait until nobody reads, nothing runs and the upstream is not called."""
        with trio.fail_after(within):
            while await self.census() != {"generations": 0, "subscribers": 0, "upstream_calls": 0}:
                await trio.sleep(0.005)

    async def wait_subscribers(self, number: int, *, within: float = WITHIN) -> None:
        """Wait until so many readers are there, all generations together."""
        with trio.fail_after(within):
            while (await self.census())["subscribers"] != number:
                await trio.sleep(0.005)

    async def wait_events(self, number: int, *, within: float = WITHIN) -> None:
        """Wait until the generations that run have had so many events, all together."""
        hub = self.proxy.hub
        with trio.fail_after(within):
            while sum(generation.transcript.last for generation in hub.running) != number:
                await trio.sleep(0.005)

    async def census(self) -> dict[str, int]:
        """What ``/debug/census`` counts of readers, generations and calls."""
        counts = (await self.http.get("/debug/census")).json()
        return {name: counts[name] for name in ("generations", "subscribers", "upstream_calls")}


@dataclass(frozen=True)
class SimulatedService(Service):
    """A proxy in front of a simulated engine."""

    engine: SimulatedEngine

    async def wait_aborted(self, calls: int, *, within: float = WITHIN) -> None:
        """Wait until the engine has seen so many callers leave before their answer's end."""
        with trio.fail_after(within):
            await self.engine.wait_until(lambda stats: stats.aborted == calls)


@asynccontextmanager
async def open_service(upstream_url: str, **settings: Any) -> AsyncGenerator[Service]:
    """Open a proxy in front of ``upstream_url``, with ``settings`` over the defaults."""
    async with _open(upstream_url, settings) as (proxy, http):
        yield Service(proxy.binds[0], proxy, http)


@asynccontextmanager
async def open_simulated(
    engine_settings: EngineSettings = FAST, **settings: Any
) -> AsyncGenerator[SimulatedService]:
    """Open an engine and a proxy in front of it, with ``settings`` over the defaults."""
    async with (
        open_engine(settings=engine_settings) as engine,
        _open(engine.url, settings) as (proxy, http),
    ):
        yield SimulatedService(proxy.binds[0], proxy, http, engine)


@asynccontextmanager
async def _open(
    upstream_url: str, settings: Mapping[str, Any]
) -> AsyncGenerator[tuple[Proxy, httpx.AsyncClient]]:
    chosen = Settings(**{"bind": "127.0.0.1:0", "upstream": upstream_url, "debug": True, **settings})
    async with (
        open_proxy(chosen, upstream_url=upstream_url) as proxy,
        httpx.AsyncClient(base_url=proxy.binds[0], verify=False, trust_env=False, timeout=10) as http,
    ):
        yield proxy, http


async def next_event(client: RawClient) -> SseEvent:
    """The next event of a stream that must not be over."""
    event = await client.next_event()
    assert event is not None, "the stream is over"
    return event


async def read_events(client: RawClient) -> list[SseEvent]:
    """Every event up to the end of a body that ends properly."""
    events: list[SseEvent] = []
    while (event := await client.next_event()) is not None:
        events.append(event)
    assert client.ended_properly, f"the stream was cut after {events}"
    return events


def text_of(events: list[SseEvent]) -> str:
    """What a stream of completions or chat completions says."""
    choices = [
        choice
        for event in events
        if event.data != b"[DONE]"
        for choice in json.loads(event.data).get("choices", [])
    ]
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content", "")
        for choice in choices
    )
