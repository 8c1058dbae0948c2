"""A client that leaves is gone at once, and the last one takes the upstream call with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.support.rawhttp import RawClient
from tests.web.service import (
    HALF_OF_EIGHT_THEN_SILENCE,
    Service,
    next_event,
    open_scripted,
    open_simulated,
    read_events,
)
from trioproxy.testing.upstream import UpstreamCall, sse

Phase = Callable[[UpstreamCall, RawClient], Awaitable[None]]
WAYS = [RawClient.close, RawClient.reset, RawClient.half_close]
AT_ONCE = 2.0
"""Seconds; a few milliseconds are enough where nothing else keeps the machine busy."""


async def before_the_head(call: UpstreamCall, client: RawClient) -> None:
    """The upstream has the request and has not answered it."""


async def after_the_head_was_committed(call: UpstreamCall, client: RawClient) -> None:
    """It has not answered, but the client has been answered for it."""
    await client.response_head()
    await client.chunk()


async def in_prefill(call: UpstreamCall, client: RawClient) -> None:
    """It has answered, and no token has come."""
    await call.start()
    await client.response_head()


async def between_events(call: UpstreamCall, client: RawClient) -> None:
    """A token has come, and the next one has not."""
    await in_prefill(call, client)
    await call.write(sse(b"1"))
    await next_event(client)


async def inside_an_event(call: UpstreamCall, client: RawClient) -> None:
    """Half of a token has come."""
    await between_events(call, client)
    await call.write(b"data: ha")


async def with_events_unread(call: UpstreamCall, client: RawClient) -> None:
    """More has come than the client has read."""
    await in_prefill(call, client)
    await call.write(sse(*[b"x" * 1000] * 500))
    await next_event(client)


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize(
    ("phase", "commit_after"),
    [
        (before_the_head, 60),
        (after_the_head_was_committed, 0),
        (in_prefill, 60),
        (between_events, 60),
        (inside_an_event, 60),
        (with_events_unread, 60),
    ],
)
async def test_the_upstream_call_ends_when_its_only_reader_leaves(
    phase: Phase, commit_after: float, leave: Callable[[RawClient], None]
) -> None:
    async with (
        open_scripted(commit_after=commit_after, heartbeat=0.02) as service,
        service.ask() as client,
    ):
        call = await service.upstream.next_call()
        await phase(call, client)

        leave(client)

        await call.wait_departure(within=AT_ONCE)
        await service.wait_released(within=AT_ONCE)
        (generation,) = await service.list_generations()
        assert generation["outcome"] == {"kind": "cancelled", "reason": "abandoned"}


@pytest.mark.parametrize("leave", WAYS)
async def test_a_reader_of_the_generation_that_leaves_last_takes_the_call_with_it(
    leave: Callable[[RawClient], None],
) -> None:
    async with (
        open_simulated() as service,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as starter,
    ):
        generation_id = (await starter.response_head()).headers["x-generation-id"]
        async with service.get(f"/v1/generations/{generation_id}/events") as reader:
            await reader.response_head()
            leave(starter)
            await service.wait_subscribers(1)
            assert service.engine.stats.active == 1

            leave(reader)

            await service.wait_aborted(1, within=AT_ONCE)
            await service.wait_released(within=AT_ONCE)


@pytest.mark.parametrize("linger", ["0.1", "0.3"])
async def test_with_a_linger_the_call_ends_so_much_later(linger: str) -> None:
    headers = HALF_OF_EIGHT_THEN_SILENCE | {"x-linger": linger}
    async with open_simulated() as service:
        async with service.ask(headers=headers) as client:
            await client.response_head()
            await next_event(client)
            leaving = trio.current_time()
        await service.wait_aborted(1)

        assert trio.current_time() - leaving >= float(linger)
        await service.wait_released()


async def test_a_stream_that_was_read_to_its_end_was_not_abandoned() -> None:
    async with open_simulated() as service:
        async with service.ask() as client:
            await client.response_head()
            while await client.next_event():
                pass
        await service.wait_released()

        assert (service.engine.stats.completed, service.engine.stats.aborted) == (1, 0)


async def test_fifty_that_leave_at_once_free_the_engine_at_once() -> None:
    everyone_leaves = trio.Event()

    async def read_until_everyone_leaves(service: Service) -> None:
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as client:
            await client.response_head()
            await everyone_leaves.wait()

    async with open_simulated() as service:
        async with trio.open_nursery() as readers:
            for _ in range(50):
                readers.start_soon(read_until_everyone_leaves, service)
            await service.wait_events(50 * 4)
            assert service.engine.stats.active == 50

            everyone_leaves.set()

        await service.wait_aborted(50, within=AT_ONCE)
        await service.wait_released(within=AT_ONCE)


async def test_those_who_pass_by_do_not_touch_the_stream_of_one_who_stays() -> None:
    async with open_scripted() as service, service.ask(headers={"x-generation-key": "k"}) as stays:
        call = await service.upstream.next_call()
        await call.start()
        await stays.response_head()
        for number in range(20):
            async with service.ask(headers={"x-generation-key": "k"}) as passes_by:
                await call.write(sse(b"%d" % number))
                await passes_by.response_head()
                await next_event(passes_by)
        await service.wait_subscribers(1)
        await call.finish(sse(b"[DONE]"))

        expected = [*(b"%d" % number for number in range(20)), b"[DONE]"]
        assert expected == [event.data for event in await read_events(stays)]
