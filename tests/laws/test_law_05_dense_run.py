"""Law 5: whoever reads, from wherever, whenever it came, is handed every event from its cursor on,
once and in order, or told which it cannot have, and after them exactly one end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.reading import Reading, read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import (
    COMPLETED,
    Evicted,
    Gap,
    Limits,
    Outcome,
    SourceFailed,
    Subscriber,
    cancelled,
    failed,
    open_hub,
)

KILOBYTE = b"x" * 744  # with the 256 bytes that an event costs
THREE_EVENTS = Limits(max_transcript_bytes=3_000)


async def test_every_joiner_sees_the_same_run_from_its_cursor_to_the_same_end() -> None:
    async def read(hub_id: str, after: int) -> None:
        with hub.subscribe(hub_id, after=after) as subscriber:
            reading = Reading()
            readings.append((after, reading))
            await reading.follow(subscriber)

    source = ScriptedSource()
    readings: list[tuple[int, Reading]] = []
    async with open_hub() as hub, trio.open_nursery() as readers:
        with hub.join("key", source) as first:
            generation = first.generation
            for last in range(10):
                for after in {0, last // 2, last}:
                    readers.start_soon(read, generation.id, after)
                source.arrive(b"%d" % (last + 1))
                await wait_all_tasks_blocked()
            source.complete()
            run = (await read_to_end(first)).told
        for after in range(12):
            readers.start_soon(read, generation.id, after)

    assert len(readings) > 30
    for after, reading in readings:
        assert run[after:] == reading.told
        assert reading.seqs == list(range(after + 1, 12))
        assert generation.outcome is reading.end


@pytest.mark.parametrize("appended", range(5))
async def test_a_joiner_in_the_tick_of_an_arrival_misses_and_doubles_nothing(
    appended: int,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source):
            source.arrive(*[b"before"] * appended)
            await wait_all_tasks_blocked()
            source.arrive(b"ready, not yet appended")
            with hub.join("key", source) as subscriber:
                source.complete(b"after")
                reading = await read_to_end(subscriber)

    assert reading.seqs == list(range(1, appended + 4))


async def test_a_reader_that_comes_back_goes_on_where_it_stopped() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source, linger=30) as subscriber:
            source.arrive(b"1", b"2")
            before = await anext(subscriber)
        source.arrive(b"3")
        await wait_all_tasks_blocked()
        with hub.join("key", source, after=subscriber.cursor) as subscriber:
            source.complete(b"4")
            after = await read_to_end(subscriber)

    assert [event.data for event in before.events] == [b"1", b"2"]
    assert after.data == [b"3", b"4", b"[DONE]"]


async def test_a_backlog_is_handed_over_whole_in_batches() -> None:
    source = ScriptedSource()
    source.complete(*[b"x" * 10_000] * 100)
    async with open_hub() as hub:
        generation = hub.start("key", source, linger=30)
        await wait_all_tasks_blocked()
        with hub.subscribe(generation.id) as subscriber:
            batches = [batch async for batch in subscriber]

    assert [e.seq for batch in batches for e in batch.events] == list(range(1, 102))
    assert len(batches) > 10


# -- what was trimmed is told ----------------------------------------------------------------------


async def test_a_trimmed_head_is_told_to_who_comes_late() -> None:
    source = ScriptedSource()
    async with open_hub(THREE_EVENTS) as hub:
        with hub.join("key", source):
            source.arrive(*[KILOBYTE] * 10)
            await wait_all_tasks_blocked()
            with hub.join("key", source, after=2) as late:
                batch = await anext(late)

    assert (batch.gap, [event.seq for event in batch.events]) == (Gap(3, 7), [8, 9, 10])


async def test_a_reader_that_is_overtaken_is_told_what_it_missed() -> None:
    source = ScriptedSource()
    async with open_hub(THREE_EVENTS) as hub:
        with hub.join("key", source) as slow:
            source.arrive(KILOBYTE, KILOBYTE)
            first = await anext(slow)
            source.arrive(*[KILOBYTE] * 10)
            await wait_all_tasks_blocked()
            second = await anext(slow)

    assert (first.gap, [event.seq for event in first.events]) == (None, [1, 2])
    assert (second.gap, [event.seq for event in second.events]) == (Gap(3, 9), [10, 11, 12])


async def test_a_reader_that_keeps_up_is_told_of_no_gap() -> None:
    source = ScriptedSource()
    async with open_hub(THREE_EVENTS) as hub:
        with hub.join("key", source) as subscriber:
            for seq in range(1, 20):
                source.arrive(KILOBYTE)
                batch = await anext(subscriber)

                assert (batch.gap, [event.seq for event in batch.events]) == (None, [seq])


# -- exactly one end -------------------------------------------------------------------------------


async def end_of(subscriber: Subscriber) -> list[Outcome | Evicted | None]:
    """The end as it stands after each of three vain attempts to read on."""
    ends: list[Outcome | Evicted | None] = []
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(subscriber)
        ends.append(subscriber.end)
    return ends


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("complete", COMPLETED),
        ("fail", failed("reset")),
        ("truncate", failed("truncated")),
        ("cancel", cancelled("stopped")),
    ],
)
async def test_the_outcome_comes_after_the_last_event_and_stays(
    how: str, expected: Outcome
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(b"1", b"2")
            await wait_all_tasks_blocked()
            match how:
                case "complete":
                    source.complete()
                case "fail":
                    source.fail(SourceFailed("reset", "the connection was reset"))
                case "truncate":
                    source.end()
                case _:
                    subscriber.generation.cancel("stopped")
            await wait_all_tasks_blocked()
            reading = await read_to_end(subscriber)

            assert reading.data[:2] == [b"1", b"2"]
            assert [expected] * 3 == await end_of(subscriber)


async def test_an_evicted_subscriber_sees_its_own_end_and_nobody_elses() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as evicted, hub.join("key", source) as stays:
            evicted.evict("draining")
            source.complete(b"1")
            gone, whole = await read_to_end(evicted), await read_to_end(stays)

            assert (gone.seqs, gone.end) == ([], Evicted("draining"))
            assert (whole.seqs, whole.end) == ([1, 2], COMPLETED)
            assert await end_of(evicted) == [Evicted("draining")] * 3


async def test_an_end_is_not_replaced_by_a_later_one() -> None:
    source = ScriptedSource()
    source.complete()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await read_to_end(subscriber)
            subscriber.evict("slow")

            assert await end_of(subscriber) == [COMPLETED] * 3


async def test_who_has_read_the_last_event_sees_one_end_though_the_hub_closes() -> None:
    source = ScriptedSource()
    source.complete(b"1")
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            batch = await anext(subscriber)
            assert [event.data for event in batch.events] == [b"1", b"[DONE]"]

            hub.close()
            await subscriber.generation.wait_opened()

            assert await anext(subscriber, None) is None
            assert subscriber.end == COMPLETED
