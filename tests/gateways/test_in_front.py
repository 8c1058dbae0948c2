"""LiteLLM in front of the proxy: it takes what the proxy says for what an engine would."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest
import trio

from benchmarks.processes import Process
from tests.e2e.commands import Command, Simulator
from tests.e2e.polling import wait_equal
from tests.gateways.asking import (
    HALF,
    SIZED,
    TEXT,
    TOKENS,
    Headers,
    stream_chat,
    stream_message,
)
from tests.gateways.standing import MASTER_KEY, OPERATOR_KEY, TENANT_KEY
from tests.simulator.speech import USER_SAYS_HELLO
from tests.support.rawhttp import RawClient, open_client, post_stream
from tests.web.service import CHAT, next_event, read_events, text_of
from trioproxy.simulator import generate_text

CALL: dict[str, Any] = {"model": "qwen", "messages": USER_SAYS_HELLO, "stream": True}
SPEAKERS: Any = [(stream_chat, "qwen"), (stream_message, "claude")]
SLOWLY = SIZED | {"x-sim-ttft": "0.5"}

AT_ONCE = 2.0
"""Seconds; a few milliseconds are enough where nothing else keeps the machine busy."""


@pytest.fixture(autouse=True)
def _at_rest(engine: Simulator) -> None:
    """Each test leaves the engine with nothing to do."""


@pytest.mark.parametrize(("speak", "model"), SPEAKERS)
async def test_a_client_reads_all_that_the_engine_says(
    litellm: Process, speak: Any, model: str
) -> None:
    texts: list[str] = []
    tokens = await trio.to_thread.run_sync(speak, litellm.url, model, SIZED, texts)

    assert ("".join(texts), tokens) == (TEXT, TOKENS)


@pytest.mark.parametrize(("speak", "model"), SPEAKERS)
async def test_a_client_notices_nothing_of_heartbeats(
    litellm: Process, speak: Any, model: str
) -> None:
    texts: list[str] = []
    tokens = await trio.to_thread.run_sync(speak, litellm.url, model, SLOWLY, texts)

    assert ("".join(texts), tokens) == (TEXT, TOKENS)


async def test_litellm_is_sent_heartbeats(inner: Command) -> None:
    own = SLOWLY | {"authorization": f"Bearer {TENANT_KEY}"}
    async with post_stream(inner.url, CHAT, CALL, own) as client:
        await read_events(client)

    assert len(client.comments) > 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_a_refusal_of_the_engine_is_the_sdks_own_error(
    litellm: Process, status: int, error: type[openai.APIStatusError]
) -> None:
    refusing = {"x-sim-status": str(status)}
    with pytest.raises(error, match="a failure that the request asked for") as refused:
        await trio.to_thread.run_sync(stream_chat, litellm.url, "qwen", refusing, [])

    assert refused.value.status_code == status


async def test_a_refusal_of_the_proxy_is_the_sdks_own_error(litellm: Process) -> None:
    with pytest.raises(openai.AuthenticationError):
        await trio.to_thread.run_sync(stream_chat, litellm.url, "refused", {}, [])


@pytest.mark.parametrize("fail", ["mid", "truncate", "cut"])
@pytest.mark.parametrize(
    ("speak", "model", "error"),
    [(stream_chat, "qwen", openai.APIError), (stream_message, "claude", anthropic.APIError)],
)
async def test_a_failure_in_the_middle_is_the_sdks_own_error(
    litellm: Process, speak: Any, model: str, error: type[Exception], fail: str
) -> None:
    texts: list[str] = []
    failing = SIZED | {"x-sim-fail": fail}
    with pytest.raises(error):
        await trio.to_thread.run_sync(speak, litellm.url, model, failing, texts)

    assert "".join(texts) == HALF


@asynccontextmanager
async def ask(litellm: Process, call: object, headers: Headers) -> AsyncGenerator[RawClient]:
    """POST a call to LiteLLM; nothing is awaited of the answer."""
    fields = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    async with open_client(litellm.url) as client:
        body = json.dumps(call).encode()
        await client.request("POST", CHAT, headers=fields | headers, body=body)
        yield client


async def wait_held(inner: Command, expected: Mapping[str, int], *, within: float) -> None:
    """Wait until the proxy says that it holds so many of these."""

    async def measure() -> Mapping[str, int]:
        async with open_client(inner.url) as client:
            await client.request("GET", "/debug/census", headers={"x-api-key": OPERATOR_KEY})
            await client.response_head()
            census = json.loads(await client.body())
        return {name: census[name] for name in expected}

    await wait_equal(expected, measure, what="the proxy holds", within=within)


@pytest.mark.parametrize(
    ("call", "headers", "begins"),
    [
        pytest.param(CALL, {"x-sim-tokens": "400"}, True, id="in a stream"),
        pytest.param(CALL, {"x-sim-ttft": "4"}, False, id="before the first token"),
        pytest.param(CALL | {"stream": False}, {"x-sim-ttft": "4"}, False, id="no stream"),
    ],
)
async def test_the_engine_stops_when_litellm_leaves(
    litellm: Process,
    inner: Command,
    engine: Simulator,
    call: object,
    headers: Headers,
    begins: bool,
) -> None:
    async with ask(litellm, call, headers) as client:
        if begins:
            await client.response_head()
            await next_event(client)
        await engine.wait_active(1)

    # When LiteLLM leaves is up to LiteLLM: once its answer is over at the latest.
    await wait_held(inner, {"subscribers": 0}, within=10)
    await engine.wait_active(0, within=AT_ONCE)
    await wait_held(inner, {"generations": 0, "upstream_calls": 0}, within=AT_ONCE)


async def test_clients_of_litellm_share_one_call(litellm: Process, engine: Simulator) -> None:
    before = (await engine.stats())["calls"]
    shared = {"x-sim-tokens": "100", "x-fanout": "replay"}
    async with ask(litellm, CALL, shared) as one, ask(litellm, CALL, shared) as other:
        told = [(await client.response_head()).headers for client in (one, other)]
        texts = [text_of(await read_events(client)) for client in (one, other)]

    assert texts == ["".join(generate_text("Hello", 100))] * 2
    assert len({headers["llm_provider-x-generation-id"] for headers in told}) == 1
    assert (await engine.stats())["calls"] == before + 1
