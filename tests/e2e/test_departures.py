"""Who leaves, in whatever way and at whatever moment, frees the engine and leaves nothing."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from tests.e2e.commands import Proxy
from tests.e2e.llama import LlamaServer
from tests.e2e.readers import LARGE_EVENTS, SMALL_BUFFER, open_stuck_reader
from tests.e2e.streams import COMPLETION, COMPLETIONS, REPLAY, ask, next_event, post
from tests.support.rawhttp import RawClient, open_client, post_stream

SLOTS = 4
ONE_READER = {"generations": 1, "subscribers": 1, "upstream_calls": 1}

LONG_PROMPT = COMPLETION | {"prompt": "river " * 3_000, "cache_prompt": False}
"""Seconds of prefill."""

Leave = Callable[[RawClient], None]
Moment = Callable[[Proxy], AbstractAsyncContextManager[RawClient]]

in_every_way = pytest.mark.parametrize(
    "leave", [RawClient.close, RawClient.reset, RawClient.half_close]
)


@asynccontextmanager
async def between_events(proxy: Proxy) -> AsyncGenerator[RawClient]:
    async with post_stream(proxy.url, COMPLETIONS, COMPLETION) as client:
        for _ in range(3):
            await next_event(client)
        yield client


@asynccontextmanager
async def inside_a_frame(proxy: Proxy) -> AsyncGenerator[RawClient]:
    async with open_client(proxy.url, rcvbuf=SMALL_BUFFER) as client:
        await post(client, LARGE_EVENTS)
        await client.response_head()
        part = b""
        while b"data: {" not in part:
            part += await client.read_some()
        assert b"\n\n" not in part
        yield client


@in_every_way
@pytest.mark.parametrize("moment", [between_events, inside_a_frame, open_stuck_reader])
async def test_departure_frees_the_slot_and_leaves_nothing(
    slow_proxy: Proxy, slow_llama: LlamaServer, moment: Moment, leave: Leave
) -> None:
    async with moment(slow_proxy) as client:
        await slow_proxy.wait_census(ONE_READER)
        assert await slow_llama.processing() == 1

        leave(client)

        await slow_llama.wait_processing(0)
        await slow_proxy.wait_at_rest()


@in_every_way
async def test_departure_from_the_engines_queue_leaves_nothing(
    slow_proxy: Proxy, slow_llama: LlamaServer, leave: Leave
) -> None:
    async with AsyncExitStack() as holders:
        for _ in range(SLOTS):
            await holders.enter_async_context(post_stream(slow_llama.url, COMPLETIONS, COMPLETION))
        async with ask(slow_proxy.url, COMPLETION) as client:
            await slow_llama.wait_deferred(1)
            await slow_proxy.wait_census(ONE_READER)

            leave(client)

            await slow_proxy.wait_at_rest()
            assert await slow_llama.processing() == SLOTS
    # The engine sees a closed connection of its queue when a slot becomes free.
    await slow_llama.wait_deferred(0)
    await slow_llama.wait_processing(0)


@in_every_way
async def test_departure_during_prefill_frees_the_slot_and_leaves_nothing(
    slow_proxy: Proxy, slow_llama: LlamaServer, leave: Leave
) -> None:
    async with ask(slow_proxy.url, LONG_PROMPT) as client:
        await slow_llama.wait_prefilling()
        await slow_proxy.wait_census(ONE_READER)

        leave(client)

        await slow_proxy.wait_at_rest()
        await slow_llama.wait_abandoned()


async def test_departure_from_a_call_for_a_whole_answer_frees_the_slot(
    slow_proxy: Proxy, slow_llama: LlamaServer
) -> None:
    async with ask(slow_proxy.url, COMPLETION | {"stream": False}) as client:
        await slow_llama.wait_processing(1)
        await slow_proxy.wait_census(ONE_READER)

        client.close()

        await slow_proxy.wait_at_rest()
        await slow_llama.wait_abandoned()


async def test_only_the_last_departure_frees_the_slot(
    slow_proxy: Proxy, slow_llama: LlamaServer
) -> None:
    async with AsyncExitStack() as stack:
        first, second, last = [
            await stack.enter_async_context(
                post_stream(slow_proxy.url, COMPLETIONS, COMPLETION, REPLAY)
            )
            for _ in range(3)
        ]

        for client in (first, second):
            client.close()
        await slow_proxy.wait_census(ONE_READER)
        for _ in range(50):
            await next_event(last)
        assert await slow_llama.processing() == 1

        last.close()
        await slow_llama.wait_processing(0)
