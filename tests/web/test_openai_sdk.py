"""The official OpenAI SDK against the proxy: it must notice no difference but in the headers."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import trio
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from tests.web.service import (
    FAST,
    HALF_OF_EIGHT_THEN_SILENCE,
    NOBODY_THERE,
    ScriptedService,
    open_scripted,
    open_service,
    open_simulated,
)

# The SDK breaks off its own generators, at [DONE] and at errors, and leaves them to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator '(openai|httpx2|httpcore2).:ResourceWarning"
)

PROMPT = "The river"
MESSAGES: Any = [{"role": "user", "content": PROMPT}]


def complete(client: OpenAI) -> str:
    answer = client.completions.create(model="m", prompt=PROMPT, stream=False)
    return answer.choices[0].text


def complete_in_a_stream(client: OpenAI) -> str:
    stream = client.completions.create(model="m", prompt=PROMPT, stream=True)
    return "".join(chunk.choices[0].text for chunk in stream)


def chat(client: OpenAI) -> str:
    answer = client.chat.completions.create(model="m", messages=MESSAGES, stream=False)
    return answer.choices[0].message.content or ""


def chat_in_a_stream(client: OpenAI) -> str:
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


CALLS = [complete, complete_in_a_stream, chat, chat_in_a_stream]


def sync_client(url: str, **options: Any) -> OpenAI:
    # A certificate store that nobody needs takes longer to load than a test to run.
    http_client = DefaultHttpxClient(verify=False)
    return OpenAI(
        base_url=f"{url}/v1", api_key="key", max_retries=0, http_client=http_client, **options
    )


@asynccontextmanager
async def open_async_client(
    url: str, *, max_retries: int = 0, on_request: Callable[[Any], Awaitable[None]] | None = None
) -> AsyncGenerator[AsyncOpenAI]:
    """A client that calls ``on_request`` for each request it makes."""
    hooks = {"request": [on_request] if on_request else []}
    async with AsyncOpenAI(
        base_url=f"{url}/v1",
        api_key="key",
        max_retries=max_retries,
        http_client=DefaultAsyncHttpxClient(verify=False, event_hooks=hooks),
    ) as client:
        yield client
    gc.collect()  # here, where the warning is expected, and not in some other test


async def in_a_thread(url: str, call: Callable[[OpenAI], str], **options: Any) -> str:
    def run() -> str:
        with sync_client(url, **options) as client:
            return call(client)

    return await trio.to_thread.run_sync(run)


@pytest.mark.parametrize("call", CALLS)
async def test_the_sdk_reads_the_same_text_as_from_the_engine_itself(
    call: Callable[[OpenAI], str],
) -> None:
    async with open_simulated() as service:
        expected = await in_a_thread(service.engine.url, call)
        text = await in_a_thread(service.url, call)

    assert len(expected) > 10
    assert expected == text


async def test_the_async_sdk_reads_the_same_text_as_from_the_engine_itself() -> None:
    async def text_from(url: str) -> list[str]:
        async with open_async_client(url) as client:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            return [chunk.choices[0].delta.content or "" async for chunk in stream]

    async with open_simulated() as service:
        expected = await text_from(service.engine.url)
        text = await text_from(service.url)

    assert len(expected) > FAST.tokens
    assert expected == text


async def test_the_sdk_lists_the_engines_models() -> None:
    async with open_simulated() as service, open_async_client(service.url) as client:
        models = [model.id async for model in client.models.list()]

    assert models == ["simulated"]


async def test_heartbeats_do_not_show_in_the_sdk() -> None:
    slowly = {"x-sim-ttft": "0.1", "x-sim-rate": "20", "x-sim-tokens": "4"}
    async with (
        open_simulated(heartbeat=0.005, commit_after=0) as service,
        open_async_client(service.url) as client,
    ):
        stream = await client.completions.create(
            model="m", prompt=PROMPT, stream=True, extra_headers=slowly
        )
        chunks = [chunk async for chunk in stream]

    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["length"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("call", [complete, complete_in_a_stream])
async def test_a_refusal_of_the_engine_is_the_sdks_own_error(
    call: Callable[[OpenAI], str], status: int, error: type[openai.APIStatusError]
) -> None:
    async with open_simulated() as service:
        with pytest.raises(error) as refused:
            await in_a_thread(service.url, call, default_headers={"x-sim-status": str(status)})

    assert refused.value.status_code == status
    assert "a failure that the request asked for" in refused.value.message


@pytest.mark.parametrize(
    ("headers", "error", "code"),
    [
        ({"x-fanout": "odd"}, openai.BadRequestError, "bad_request"),
        ({"last-event-id": "gen_x:1"}, openai.NotFoundError, "generation_not_found"),
        ({}, openai.InternalServerError, "upstream_unreachable"),
    ],
)
async def test_a_refusal_of_the_proxy_is_the_sdks_own_error(
    headers: dict[str, str], error: type[openai.APIStatusError], code: str
) -> None:
    async with open_service(NOBODY_THERE) as service:
        with pytest.raises(error) as refused:
            await in_a_thread(service.url, chat_in_a_stream, default_headers=headers)

    assert refused.value.code == code


@pytest.mark.parametrize("fail", ["mid", "truncate", "cut"])
@pytest.mark.parametrize("call", [complete_in_a_stream, chat_in_a_stream])
async def test_a_failure_in_the_middle_of_a_stream_is_the_sdks_own_error(
    call: Callable[[OpenAI], str], fail: str
) -> None:
    async with open_simulated() as service:
        with pytest.raises(openai.APIError) as failure:
            await in_a_thread(service.url, call, default_headers={"x-sim-fail": fail})

    assert failure.value.message
    assert not isinstance(failure.value, openai.APIConnectionError)


async def test_the_sdk_gets_every_token_before_the_failure() -> None:
    chunks: list[object] = []
    breaks_off = {"x-sim-fail": "truncate", "x-sim-tokens": "8"}

    async def read(client: AsyncOpenAI) -> None:
        stream = await client.completions.create(
            model="m", prompt=PROMPT, stream=True, extra_headers=breaks_off
        )
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401

    async with open_simulated() as service, open_async_client(service.url) as client:
        with pytest.raises(openai.APIError, match="ended before it was complete"):
            await read(client)

    assert len(chunks) == 4


async def test_an_sdk_client_that_closes_its_stream_ends_the_call() -> None:
    async with open_simulated() as service, open_async_client(service.url) as client:
        stream = await client.completions.create(
            model="m", prompt=PROMPT, stream=True, extra_headers=HALF_OF_EIGHT_THEN_SILENCE
        )
        await anext(stream)

        await stream.close()

        await service.wait_aborted(1)


async def test_the_sdk_retries_a_rate_limit_and_reads_the_answer() -> None:
    async def refuse_once(service: ScriptedService) -> None:
        first = await service.upstream.next_call()
        await first.respond(429, ("retry-after-ms", "1"), body=b"{}")
        second = await service.upstream.next_call()
        await second.respond(
            200,
            ("content-type", "application/json"),
            body=b'{"choices":[{"index":0,"text":"late","finish_reason":"stop"}]}',
        )

    async with (
        open_scripted() as service,
        open_async_client(service.url, max_retries=1) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(refuse_once, service)
        answer = await client.completions.create(model="m", prompt=PROMPT)

    assert answer.choices[0].text == "late"
    assert service.upstream.calls == 2


async def test_the_sdk_does_not_ask_again_what_would_be_refused_again() -> None:
    asked: list[object] = []

    async def take_note(request: object) -> None:
        asked.append(request)

    named = {"x-generation-key": "k", "authorization": "Bearer key"}
    async with (
        open_simulated() as service,
        service.ask(headers=named | HALF_OF_EIGHT_THEN_SILENCE) as first,
        open_async_client(service.url, max_retries=2, on_request=take_note) as client,
    ):
        await first.response_head()
        with pytest.raises(openai.ConflictError) as refused:
            await client.completions.create(
                model="m", prompt="Another", stream=True, extra_headers=named
            )

    assert refused.value.code == "generation_mismatch"
    assert len(asked) == 1
