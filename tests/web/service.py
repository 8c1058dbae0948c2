"""The whole proxy on a loopback socket, and a client that trusts nothing but HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import trio

from tests.support.rawhttp import WITHIN, RawClient, open_client
from tests.support.response import Head
from tests.support.sse import SseEvent
from trioproxy.config import Settings
from trioproxy.serving import Proxy, open_proxy
from trioproxy.simulator import EngineSettings, SimulatedEngine, open_engine
from trioproxy.testing.upstream import ScriptedUpstream, open_upstream

FAST = EngineSettings(rate=0, ttft=0, tokens=8)
DEFAULTS: dict[str, Any] = {"bind": "127.0.0.1:0", "debug": True}

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

COMPLETION: dict[str, Any] = {"prompt": "The river", "stream": True}
"""The body of a call that streams as many tokens as the engine's settings say."""

CREATION: dict[str, Any] = {"path": COMPLETIONS, "body": {"prompt": "The river", "max_tokens": 4}}
"""What makes a generation that nobody reads yet."""

NOBODY_THERE = "http://127.0.0.1:1"
"""An upstream that refuses every connection."""

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
        async with self.request("POST", path, headers=headers, body=payload) as client:
            yield client

    @asynccontextmanager
    async def get(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[RawClient]:
        """The same for GET."""
        async with self.request("GET", path, headers=headers) as client:
            yield client

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> AsyncGenerator[RawClient]:
        """Send any request on a connection of its own; nothing is awaited of the answer."""
        async with open_client(self.url) as client:
            await client.request(method, target, headers=headers, body=body)
            yield client

    async def create(
        self, creation: object, *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Make a generation that nobody reads yet; it is returned as the response shows it."""
        response = await self.http.post("/v1/generations", json=creation, headers=headers)
        assert response.status_code == 201, response.text
        return response.json()

    async def list_generations(self) -> list[dict[str, Any]]:
        """All generations of who has no credentials."""
        answer = (await self.http.get("/v1/generations")).json()
        assert answer.keys() - {"node"} == {"object", "data"}  # which one of a cluster it is
        assert answer["object"] == "list"
        return answer["data"]

    async def describe(self, generation_id: str) -> dict[str, Any]:
        """The generation as ``GET /v1/generations/{id}`` shows it to who has no credentials."""
        response = await self.http.get(f"/v1/generations/{generation_id}")
        assert response.status_code == 200, response.text
        return response.json()

    async def outcome_of(self, generation_id: str) -> dict[str, Any]:
        """The outcome of the generation, as soon as it has one."""

        async def has_ended() -> bool:
            return (await self.describe(generation_id))["state"] == "ended"

        await wait_until(has_ended)
        return (await self.describe(generation_id))["outcome"]

    async def wait_released(self, *, within: float = WITHIN) -> None:
        """Wait until nobody reads, nothing runs and the upstream is not called."""

        async def is_released() -> bool:
            census = (await self.http.get("/debug/census")).json()
            return census["generations"] == census["subscribers"] == census["upstream_calls"] == 0

        await wait_until(is_released, within=within)

    async def wait_subscribers(self, number: int) -> None:
        """Wait until so many readers are there, all generations together."""

        async def are_there() -> bool:
            return (await self.http.get("/healthz")).json()["subscribers"] == number

        await wait_until(are_there)

    async def wait_events(self, number: int) -> None:
        """Wait until the generations that run have had so many events, all together."""
        hub = self.proxy.hub

        async def have_come() -> bool:
            await trio.lowlevel.checkpoint()
            return sum(generation.transcript.last for generation in hub.running) == number

        await wait_until(have_come)


@dataclass(frozen=True)
class SimulatedService(Service):
    """A proxy in front of a simulated engine."""

    engine: SimulatedEngine

    async def wait_aborted(self, calls: int, *, within: float = WITHIN) -> None:
        """Wait until the engine has seen so many callers leave before their answer's end."""
        with trio.fail_after(within):
            await self.engine.wait_until(lambda stats: stats.aborted == calls)


@dataclass(frozen=True)
class ScriptedService(Service):
    """A proxy in front of an upstream that the test plays itself."""

    upstream: ScriptedUpstream


@asynccontextmanager
async def open_service(upstream_url: str, **settings: Any) -> AsyncGenerator[Service]:
    """Open a proxy in front of ``upstream_url``, with ``settings`` over the defaults."""
    async with _open(upstream_url, settings) as (proxy, http):
        yield Service(proxy.binds[0], proxy, http)


@asynccontextmanager
async def open_simulated(**settings: Any) -> AsyncGenerator[SimulatedService]:
    """Open an engine and a proxy in front of it, with ``settings`` of the proxy."""
    async with (
        open_engine(settings=FAST) as engine,
        _open(engine.url, settings) as (proxy, http),
    ):
        yield SimulatedService(proxy.binds[0], proxy, http, engine)


@asynccontextmanager
async def open_scripted(**settings: Any) -> AsyncGenerator[ScriptedService]:
    """Open an upstream and a proxy in front of it, with ``settings`` of the proxy."""
    async with (
        open_upstream() as upstream,
        _open(upstream.url, settings) as (proxy, http),
    ):
        yield ScriptedService(proxy.binds[0], proxy, http, upstream)


@asynccontextmanager
async def _open(
    upstream_url: str, settings: Mapping[str, Any]
) -> AsyncGenerator[tuple[Proxy, httpx.AsyncClient]]:
    chosen: dict[str, Any] = {**DEFAULTS, "upstream": upstream_url, **settings}
    async with open_proxy(Settings(**chosen), upstream_url=upstream_url) as proxy:
        url = proxy.binds[0]
        async with httpx.AsyncClient(base_url=url, verify=False, trust_env=False) as http:
            yield proxy, http


async def wait_until(condition: Callable[[], Awaitable[bool]], *, within: float = WITHIN) -> None:
    """Ask until the answer is yes.

    Raises:
        trio.TooSlowError: it was not, for ``within`` seconds.
    """
    with trio.fail_after(within):
        # Polled, because over HTTP nothing tells that something has changed.
        while not await condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def assert_answers(service: SimulatedService) -> None:
    """The service answers the next two calls."""
    before = service.engine.stats.calls
    for _ in range(2):
        answer = await service.http.post(COMPLETIONS, json=COMPLETION)
        assert answer.status_code == 200
        assert b"\ndata: [DONE]\n" in answer.content
    assert service.engine.stats.calls == before + 2


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error as OpenAI's clients read it: four fields, and a message that says something."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def refusal_of(response: httpx.Response) -> tuple[int, str]:
    """The status of the response and the code of its error."""
    return response.status_code, error_of(response)["code"]


def lasting_headers_of(head: Head) -> dict[str, str]:
    """The headers of an answer without those that are new each time, which must be there."""
    headers = dict(head.headers)
    assert headers.pop("date")
    generation_id = headers.pop("x-generation-id")
    assert generation_id.startswith("gen_")
    assert headers.pop("vary") == "Origin"
    assert headers.pop("link") == f'</v1/generations/{generation_id}>; rel="cancel"'
    return headers


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
