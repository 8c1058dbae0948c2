"""The Python clients that can resume, their connections cut 100 times on each route: nothing is
lost, and nothing comes twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import trio
from httpx_sse import aconnect_sse
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.clients.cutting import (
    CUTS,
    PACED,
    READERS,
    TEXT,
    TOKENS,
    body_of,
    create_all,
    text_of,
)
from tests.clients.relay import Relay, open_relay
from tests.simulator.speech import BY_PATH
from tests.web.service import SimulatedService, open_simulated
from tests.web.sockets import open_socket
from trioproxy.client import open_client

LINGERING = PACED | {"x-linger": "30"}

PATHS = pytest.mark.parametrize("path", BY_PATH)

# The SDK breaks off its own generators, and leaves them to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator '(openai|httpx2?|httpx_sse|httpcore2?).:ResourceWarning"
)


def assert_whole(path: str, seqs: list[int], data: list[str]) -> None:
    assert seqs == list(range(1, len(seqs) + 1))
    assert text_of(path, data) == TEXT


async def read_by_httpx_sse(url: str, path: str, generation_id: str) -> None:
    """Read the events of a generation, and come back with the last id whenever it breaks off."""
    last_id, seqs, data = "", list[int](), list[str]()
    async with httpx.AsyncClient(verify=False, timeout=10) as client:
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            address = f"{url}/v1/generations/{generation_id}/events"
            try:
                async with aconnect_sse(client, "GET", address, headers=headers) as source:
                    if source.response.status_code == 204:
                        break
                    async for event in source.aiter_sse():
                        last_id = event.id
                        seqs.append(int(last_id.rpartition(":")[2]))
                        data.append(event.data)
            except httpx.RemoteProtocolError:
                continue
    assert_whole(path, seqs, data)


@PATHS
async def test_httpx_sse_with_the_last_event_id(path: str) -> None:
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=CUTS, longest_run=15, clean=True, retry=False) as relay,
    ):
        await _read_several(
            service,
            path,
            lambda generation_id: read_by_httpx_sse(relay.url, path, generation_id),
        )
        assert relay.cuts_left == 0


async def _read_several(service: SimulatedService, path: str, read: Callable[[str], Any]) -> None:
    async with trio.open_nursery() as nursery:
        for generation_id in await create_all(service, path):
            nursery.start_soon(read, generation_id)
    assert service.engine.stats.calls == READERS
    assert service.engine.stats.completed == READERS


async def read_by_trioproxy(relay: Relay, path: str) -> None:
    async with open_client(relay.url) as client:
        stream = client.stream(path, body_of(path), headers=LINGERING)
        events = [event async for event in stream]
    assert_whole(path, [event.seq for event in events], [event.data.decode() for event in events])


@PATHS
async def test_our_own_client(path: str) -> None:
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=CUTS, longest_run=15) as relay,
    ):
        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(read_by_trioproxy, relay, path)
        assert service.engine.stats.calls == READERS
        assert relay.cuts_left == 0


@PATHS
async def test_a_websocket_that_subscribes_after_what_it_has_read(path: str) -> None:
    dice = random.Random(path)

    async def read(generation_id: str) -> None:
        seqs, data, cuts, ended = list[int](), list[str](), 0, False
        while not ended:
            async with open_socket(service) as socket:
                after = seqs[-1] if seqs else 0
                await socket.say(type="subscribe", generation=generation_id, after=after)
                enough = dice.randint(1, 15) if cuts < CUTS / READERS else TOKENS * 2
                while enough:
                    message = await socket.hear()
                    if message["type"] == "event":
                        seqs.append(message["seq"])
                        data.append(message["data"])
                        enough -= 1
                    elif message["type"] == "end":
                        assert message["outcome"]["kind"] == "completed"
                        ended = True
                        break
                cuts += not ended
                socket.stream.socket.close()
        assert cuts == CUTS / READERS
        assert_whole(path, seqs, data)

    async with open_simulated() as service:
        await _read_several(service, path, read)


async def read_by_openai(relay: Relay) -> None:
    http = DefaultAsyncHttpxClient(verify=False)
    numbers, deltas = list[int](), list[str]()
    response_id: str | None = None
    async with AsyncOpenAI(
        base_url=f"{relay.url}/v1", api_key="k", http_client=http, max_retries=0
    ) as client:
        while True:
            try:
                stream: Any
                if response_id is None:
                    stream = await client.responses.create(
                        model="m",
                        input="Hello",
                        stream=True,
                        background=True,
                        extra_headers=LINGERING,
                    )
                else:
                    stream = await client.responses.retrieve(
                        response_id, stream=True, starting_after=numbers[-1]
                    )
                async for event in stream:
                    numbers.append(event.sequence_number)
                    if event.type == "response.created":
                        response_id = event.response.id
                    if event.type == "response.output_text.delta":
                        deltas.append(event.delta)
                break
            except openai.APIConnectionError:
                continue
    assert numbers == list(range(len(numbers)))
    assert "".join(deltas) == TEXT


async def test_responses_that_are_retrieved_after_the_last_number() -> None:
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=CUTS, longest_run=15, clean=True, retry=False) as relay,
    ):
        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(read_by_openai, relay)
        assert service.engine.stats.calls == READERS
        assert relay.cuts_left == 0
