"""LiteLLM behind the proxy: what comes from LiteLLM is shared, resumed and stopped like any
engine's answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import trio

from benchmarks.processes import Process
from tests.e2e.commands import Simulator
from tests.gateways.asking import HALF, SIZED, TEXT, TOKENS, stream_message
from tests.gateways.standing import LISTED, LITELLM, gateway_of
from tests.simulator.speech import USER_SAYS_HELLO
from tests.support.rawhttp import RawClient
from tests.support.sdks import (
    OpenAIChat,
    OpenAICompletions,
    OpenAIResponses,
    OpenAIResponsesHelper,
)
from tests.web.service import (
    CHAT,
    NOBODY_THERE,
    Service,
    next_event,
    open_service,
    read_events,
    text_of,
)
from trioproxy.config import Gateway, RouteEntry, TargetEntry, UpstreamEntry

CLIENTS: Any = [OpenAICompletions, OpenAIChat, OpenAIResponses, OpenAIResponsesHelper]
CALL: dict[str, Any] = {"model": "m", "messages": USER_SAYS_HELLO, "stream": True}
JSON = {"content-type": "application/json"}

AT_ONCE = 2.0
"""Seconds; a few milliseconds are enough where nothing else keeps the machine busy."""


@pytest.fixture
async def service(litellm: Process, engine: Simulator, tmp_path: Path) -> AsyncIterator[Service]:
    """A proxy that comes to LiteLLM."""
    gateway = gateway_of("behind", tmp_path, {LITELLM: litellm.url})
    async with open_service("", upstream=None, gateway=gateway) as service:
        yield service
        await service.wait_released()


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_sdk_reads_all_that_the_engine_says(service: Service, client: Any) -> None:
    texts: list[str | None] = []
    await trio.to_thread.run_sync(client.stream, service.url, SIZED, texts)
    whole = await trio.to_thread.run_sync(client.whole, service.url, SIZED)

    assert "".join(filter(None, texts)) == whole == TEXT


async def test_the_sdk_for_messages_reads_all_that_the_engine_says(service: Service) -> None:
    texts: list[str] = []
    tokens = await trio.to_thread.run_sync(stream_message, service.url, "messages", {}, texts)

    assert ("".join(texts), tokens) == (TEXT, TOKENS)


async def test_the_usage_is_told(service: Service) -> None:
    call = CALL | {"stream_options": {"include_usage": True}}
    async with service.ask(call, path=CHAT, headers=JSON | SIZED) as client:
        generation_id = (await client.response_head()).headers["x-generation-id"]
        *_, last, done = await read_events(client)
    described = await service.describe(generation_id)

    assert done.data == b"[DONE]"
    assert json.loads(last.data)["usage"]["completion_tokens"] == TOKENS
    assert described["usage"]["completion_tokens"] == TOKENS
    assert described["outcome"] == {"kind": "completed", "reason": None}


async def test_readers_share_one_call(service: Service, engine: Simulator) -> None:
    before = (await engine.stats())["calls"]
    shared = JSON | SIZED | {"x-fanout": "replay"}
    async with service.ask(CALL, path=CHAT, headers=shared) as one:
        first = await one.response_head()
        async with service.ask(CALL, path=CHAT, headers=shared) as other:
            second = await other.response_head()
            events, again = await read_events(one), await read_events(other)

    assert events == again
    assert text_of(events) == TEXT
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "join")
    assert (await engine.stats())["calls"] == before + 1


async def test_a_reader_goes_on_where_it_left_off(service: Service, engine: Simulator) -> None:
    before = (await engine.stats())["calls"]
    async with service.ask(CALL, path=CHAT, headers=JSON | SIZED | {"x-linger": "30"}) as client:
        generation_id = (await client.response_head()).headers["x-generation-id"]
        events = [await next_event(client) for _ in range(5)]
    resuming = JSON | SIZED | {"last-event-id": events[-1].id or ""}
    async with service.ask(CALL, path=CHAT, headers=resuming) as client:
        await client.response_head()
        events += await read_events(client)

    numbers = range(1, len(events) + 1)
    assert [event.id for event in events] == [f"{generation_id}:{seq}" for seq in numbers]
    assert text_of(events) == TEXT
    assert (await engine.stats())["calls"] == before + 1


async def begin(client: RawClient) -> None:
    await client.response_head()
    await next_event(client)


async def wait_in_vain(client: RawClient) -> None:
    """The engine has the call, and says nothing yet."""


LEAVING: Any = [
    pytest.param(CALL, {"x-sim-tokens": "400"}, begin, id="in a stream"),
    pytest.param(CALL, {"x-sim-ttft": "4"}, wait_in_vain, id="before the first token"),
    pytest.param(CALL | {"stream": False}, {"x-sim-ttft": "4"}, wait_in_vain, id="no stream"),
]
"""Calls that take four seconds, and how far a reader gets."""


@pytest.mark.parametrize(("call", "headers", "get_so_far"), LEAVING)
async def test_the_last_reader_that_leaves_takes_the_call_with_it(
    service: Service,
    litellm: Process,
    engine: Simulator,
    call: Any,
    headers: dict[str, str],
    get_so_far: Any,
) -> None:
    async with service.ask(call, path=CHAT, headers=JSON | headers) as client:
        await get_so_far(client)
        await engine.wait_active(1)
        during = connections_to(litellm.port)
    await service.wait_released(within=AT_ONCE)

    assert connections_to(litellm.port) == during - 1


@pytest.mark.xfail(reason="not every LiteLLM leaves its engine (LiteLLM #13774, #36123)")
@pytest.mark.parametrize(("call", "headers", "get_so_far"), LEAVING)
async def test_litellm_leaves_its_engine_then(
    service: Service, engine: Simulator, call: Any, headers: dict[str, str], get_so_far: Any
) -> None:
    aborted = (await engine.stats())["aborted"]
    async with service.ask(call, path=CHAT, headers=JSON | headers) as client:
        await get_so_far(client)
        await engine.wait_active(1)

    await engine.wait_active(0, within=AT_ONCE)

    assert (await engine.stats())["aborted"] == aborted + 1


def connections_to(port: int) -> int:
    """How many are open to this port of 127.0.0.1, in the whole machine (proc(5))."""
    remote, established = f"0100007F:{port:04X}", "01"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2:4] == [remote, established] for line in lines)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_a_refusal_of_the_engine_is_the_sdks_own_error(
    service: Service, status: int, error: type[openai.APIStatusError]
) -> None:
    refusing = {"x-sim-status": str(status)}
    with pytest.raises(error) as refused:
        await trio.to_thread.run_sync(OpenAIChat.stream, service.url, refusing, [])

    assert refused.value.status_code == status
    assert "a failure that the request asked for" in refused.value.message
    assert refused.value.response.headers["x-litellm-call-id"]


@pytest.mark.parametrize("fail", ["mid", "cut"])
async def test_a_failure_in_the_middle_is_the_sdks_own_error(service: Service, fail: str) -> None:
    texts: list[str] = []
    with pytest.raises(openai.APIError, match="litellm") as failure:
        await trio.to_thread.run_sync(
            OpenAIChat.stream, service.url, SIZED | {"x-sim-fail": fail}, texts
        )

    assert "".join(texts) == HALF
    assert not isinstance(failure.value, openai.APIConnectionError)


async def test_what_litellm_tells_of_a_call_every_reader_is_told(service: Service) -> None:
    shared = JSON | SIZED | {"x-fanout": "replay"}
    async with (
        service.ask(CALL, path=CHAT, headers=shared) as one,
        service.ask(CALL, path=CHAT, headers=shared) as other,
    ):
        told = [(await client.response_head()).headers for client in (one, other)]
        for client in (one, other):
            await read_events(client)
    whole = await service.http.post(CHAT, json=CALL | {"stream": False}, headers=SIZED)

    call_ids = {headers["x-litellm-call-id"] for headers in told}
    assert len(call_ids) == 1
    for headers in (*told, whole.headers):
        assert headers["x-litellm-model-group"] == "m"
        assert headers["x-ratelimit-limit-requests"] == "100000"


async def test_the_models_are_those_that_litellm_lists(service: Service) -> None:
    listed = (await service.http.get("/v1/models")).json()

    assert sorted(model["id"] for model in listed["data"]) == sorted(LISTED)


async def test_its_models_are_listed_beside_those_of_others(
    litellm: Process, tmp_path: Path
) -> None:
    printed = gateway_of("behind", tmp_path, {LITELLM: litellm.url})
    another = UpstreamEntry(name="another", url=NOBODY_THERE)
    to = (TargetEntry(upstream="litellm"), TargetEntry(upstream="another"))
    gateway = Gateway(
        upstreams=(*printed.upstreams, another), routes=(RouteEntry(model="m*", to=to),)
    )
    async with open_service("", upstream=None, gateway=gateway) as service:
        listed = (await service.http.get("/v1/models")).json()

    assert sorted(model["id"] for model in listed["data"]) == ["m", "messages"]


async def test_litellm_calls_nobody_to_tell_that_it_lives(
    service: Service, engine: Simulator
) -> None:
    before = (await engine.stats())["calls"]

    answer = await service.http.get("/readyz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert (await engine.stats())["calls"] == before
