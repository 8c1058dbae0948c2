"""Law 11: a crash belongs to the one that crashed, subscriber, source or renderer, and whoever asks
next is served."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.reading import read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import (
    COMPLETED,
    Arrival,
    Event,
    Feed,
    Hub,
    Source,
    cancelled,
    failed,
    open_hub,
)


async def crash() -> None:
    raise ValueError("a bug in the source")


def crashing_at_once() -> Source:
    return ScriptedSource(entering=crash)


def crashing_while_read() -> Source:
    source = ScriptedSource()
    source.fail(ValueError("a bug in the source"))
    return source


def crashing_in_a_task_of_its_own() -> Source:
    source = ScriptedSource()

    @asynccontextmanager
    async def with_a_nursery() -> AsyncGenerator[Feed]:
        async with trio.open_nursery() as nursery, source as feed:
            nursery.start_soon(crash)
            yield feed

    return with_a_nursery()


class Headless(ScriptedSource):
    """A source with a bug in the property that tells its head."""

    def __init__(self) -> None:
        super().__init__()
        del self.head


class Unreadable(ScriptedSource):
    """A source that cannot even begin to be read."""

    def __aiter__(self) -> ScriptedSource:
        raise ValueError("a bug in the source")


CRASHING = [
    crashing_at_once,
    crashing_while_read,
    crashing_in_a_task_of_its_own,
    Headless,
    Unreadable,
]


async def assert_serves(hub: Hub, key: str) -> None:
    source = ScriptedSource()
    source.complete(b"a")
    with hub.join(key, source) as subscriber:
        reading = await read_to_end(subscriber)

    assert (reading.data, reading.end) == ([b"a", b"[DONE]"], COMPLETED)


@pytest.mark.parametrize("make_source", CRASHING)
async def test_a_source_that_crashes_fails_its_generation_and_no_other(
    make_source: Callable[[], Source], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub() as hub:
        with hub.join("other", ScriptedSource()) as other:
            with hub.join("key", make_source()) as subscriber:
                reading = await read_to_end(subscriber)

                assert reading.end == failed("internal")
                await assert_serves(hub, "key")
            assert other.generation.outcome is None

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert subscriber.generation.id in record.getMessage()


async def test_a_source_that_crashes_in_leaving_leaves_a_completed_outcome_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = ScriptedSource(leaving=crash)
    source.complete(b"a")
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)
            await wait_all_tasks_blocked()

            assert reading.end == COMPLETED
            await assert_serves(hub, "key")

    assert len(caplog.records) == 1


async def test_a_source_that_crashes_while_it_is_cancelled_takes_nothing_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource(leaving=crash)) as subscriber:
            await subscriber.generation.wait_opened()
        await wait_all_tasks_blocked()

        assert subscriber.generation.outcome == cancelled("abandoned")
        await assert_serves(hub, "key")

    assert len(caplog.records) == 1


async def test_a_crash_that_comes_beside_a_cancellation_takes_nothing_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @asynccontextmanager
    async def with_a_task_that_cleans_up_badly() -> AsyncGenerator[Feed]:
        async def clean_up_badly() -> None:
            try:
                await trio.sleep_forever()
            finally:
                await crash()

        async with trio.open_nursery() as nursery, ScriptedSource() as feed:
            nursery.start_soon(clean_up_badly)
            yield feed

    async with open_hub() as hub:
        with hub.join("key", with_a_task_that_cleans_up_badly()) as subscriber:
            await subscriber.generation.wait_opened()
        await wait_all_tasks_blocked()

        assert subscriber.generation.outcome == cancelled("abandoned")
        await assert_serves(hub, "key")

    assert len(caplog.records) == 1


async def test_a_message_that_cannot_be_appended_fails_only_its_generation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Confused(ScriptedSource):
        """Yields what is no arrival."""

        async def __anext__(self) -> Sequence[Arrival]:
            await trio.lowlevel.checkpoint()
            return [None]  # type: ignore[list-item]

    async with open_hub() as hub:
        with hub.join("key", Confused()) as subscriber:
            reading = await read_to_end(subscriber)

        assert reading.end == failed("internal")
        await assert_serves(hub, "key")


async def test_a_subscriber_that_crashes_leaves_the_others_their_generation() -> None:
    async def crash_while_reading() -> None:
        with hub.join("key", source) as subscriber:
            await anext(subscriber)
            raise ValueError("a bug in the handler")

    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(b"a")
            with pytest.raises(ValueError, match="a bug in the handler"):
                await crash_while_reading()
            source.complete(b"b")
            reading = await read_to_end(subscriber)

    assert (reading.data, reading.end) == ([b"a", b"b", b"[DONE]"], COMPLETED)


async def test_a_renderer_that_crashes_spoils_nothing_for_the_next() -> None:
    def broken(generation_id: str, event: Event) -> bytes:
        raise ValueError("a bug in the renderer")

    def sound(generation_id: str, event: Event) -> bytes:
        return event.data

    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(b"a", b"b")
            batch = await anext(subscriber)
            held = hub.held_bytes
            with pytest.raises(ValueError, match="a bug in the renderer"):
                batch.render(broken)

            assert held == hub.held_bytes
            assert batch.render(sound) == b"ab"
