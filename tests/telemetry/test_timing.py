"""Every figure of a generation's timing, exactly, in virtual time."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fanout.test_pump import ScriptedSink
from tests.telemetry.scenes import open_scene, token
from trioproxy.fanout import Limits, Subscriber
from trioproxy.telemetry import describe_timing, timing_of
from trioproxy.telemetry.reads import KEPT_READS
from trioproxy.telemetry.report import quantiles
from trioproxy.wire import Message

NO_TEXT = b'{"choices":[]}'


async def read_on(subscriber: Subscriber) -> None:
    async for _ in subscriber:
        pass


async def test_first_token_gaps_bursts_and_end(autojump_clock: MockClock) -> None:
    async with open_scene() as scene, trio.open_nursery() as nursery:
        await trio.sleep(0.25)  # from the request to the call
        with scene.join() as subscriber:
            nursery.start_soon(read_on, subscriber)
            timing = timing_of(subscriber.generation)
            await trio.sleep(0.25)
            scene.arrive(NO_TEXT)
            await trio.sleep(0.5)
            scene.arrive(token("a"))
            for pause in (0.1, 0.1, 0.1, 0.5):
                await trio.sleep(pause)
                scene.arrive(token("b"))
            await trio.sleep(0.2)
            scene.arrive(token("c"), token("d"))
            scene.source.complete()
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        told = describe_timing(timing)

    assert timing.ttft == pytest.approx(1.0)
    assert timing.duration == pytest.approx(2.0)
    assert timing.reads.gaps() == pytest.approx([0.1, 0.1, 0.1, 0.5, 0.2, 0.0])
    assert timing.time_per_token == pytest.approx(1.0 / 6)
    assert timing.tokens_per_second == pytest.approx(6.0)
    assert told["inter_token_seconds"] == pytest.approx(
        {"p50": 0.1, "p90": 0.5, "p99": 0.5, "max": 0.5}
    )
    assert told["burst_share"] == pytest.approx(1 / 6)
    assert told["tokens"] == 7
    assert told["timeline"] == [
        *((1, 0.5), (2, 1.0), (3, 1.1), (4, 1.2), (5, 1.3), (6, 1.8), (8, 2.0), (9, 2.0))
    ]
    assert told["cancel_to_closed_seconds"] is None


async def test_recent_gaps_are_the_last_that_were_between_two_reads(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        with scene.join() as subscriber:
            timing = timing_of(subscriber.generation)
            assert timing.reads.recent_gaps(3) == []
            for number in range(1, 6):
                scene.arrive(token("a"), token("b"))
                await wait_all_tasks_blocked()
                await trio.sleep(number)
                scene.arrive(NO_TEXT)
            assert timing.reads.recent_gaps(3) == pytest.approx([2, 3, 4])


async def test_from_cancel_to_closed(autojump_clock: MockClock) -> None:
    async def leave_slowly() -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(0.75):
            await trio.sleep_forever()

    async with open_scene() as scene:
        scene.source._leaving = leave_slowly
        with scene.join() as subscriber:
            timing = timing_of(subscriber.generation)
            await wait_all_tasks_blocked()
        assert timing.cancel_to_closed is None
        await trio.sleep(1)

    assert timing.cancel_to_closed == pytest.approx(0.75)


async def test_a_late_reader_catches_up_and_then_has_what_comes(autojump_clock: MockClock) -> None:
    async with open_scene() as scene, trio.open_nursery() as nursery:
        with scene.join() as first:
            nursery.start_soon(read_on, first)
            for _ in range(3):
                scene.arrive(token("a"))
                await trio.sleep(1)
            with scene.join() as late:
                reader = timing_of(late.generation).readers[late]
                await anext(late)
                await trio.sleep(0.25)  # to write it
                nursery.start_soon(read_on, late)
                await trio.sleep(0.75)
                scene.arrive(token("b"))
                await trio.sleep(1)
                nursery.cancel_scope.cancel()

    assert (reader.joining, reader.joined_after, reader.history) == ("late", 0, 3)
    assert reader.joined_at - timing_of(late.generation).accepted_at == pytest.approx(3)
    assert (reader.first_at, reader.caught_up_at) == (reader.joined_at + 0.25,) * 2
    assert (reader.cursor, reader.why) == (4, "gone")
    assert reader.left_at == reader.joined_at + 2


async def test_a_slow_readers_delay_and_lag(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        with scene.join() as subscriber:
            reader = timing_of(subscriber.generation).readers[subscriber]
            scene.arrive(token("a"))
            await wait_all_tasks_blocked()
            await anext(subscriber)
            scene.arrive(token("b"))
            await trio.sleep(2)  # to write the first
            await anext(subscriber)
            await trio.sleep(1)  # to write the second, which came two seconds before
            with trio.move_on_after(0):
                await anext(subscriber)

    assert reader.deliveries == 2
    assert reader.delay == pytest.approx(2 + 3)
    assert reader.longest_delay == pytest.approx(3)
    assert reader.lag == len(token("b"))


@pytest.mark.parametrize("number", [1, 100])
async def test_what_the_pump_delivers_is_counted_by_the_pass(
    number: int, autojump_clock: MockClock
) -> None:
    async def lend_on(subscriber: Subscriber) -> None:
        while subscriber.is_current:
            await subscriber.lend(ScriptedSink())

    async with open_scene() as scene, trio.open_nursery() as nursery:
        with ExitStack() as crowd:
            everybody = [crowd.enter_context(scene.join()) for _ in range(number)]
            timing = timing_of(everybody[0].generation)
            await wait_all_tasks_blocked()
            for subscriber in everybody:
                nursery.start_soon(lend_on, subscriber)
            await wait_all_tasks_blocked()
            for _ in range(3):
                await trio.sleep(1)
                scene.arrive(token("a"))
                await wait_all_tasks_blocked()
            told = [(reader.deliveries, reader.cursor) for reader in timing.all_readers]
            assert told == [(3, 3)] * number
            nursery.cancel_scope.cancel()
            await wait_all_tasks_blocked()

    assert sum(scene.telemetry.metrics.delivery_delay.counts) == 3 * number
    assert len(timing.gone) == number
    for reader in timing.gone:
        assert (reader.deliveries, reader.cursor, reader.why) == (3, 3, "gone")
        assert reader.first_at == pytest.approx(timing.accepted_at + 1)


async def test_how_readers_join(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        with scene.join() as first:
            scene.arrive(token("a"), token("b"))
            await wait_all_tasks_blocked()
            with scene.join() as late, scene.join(after=1) as back:
                readers = timing_of(first.generation).readers
                joinings = [readers[one].joining for one in (first, late, back)]

    assert joinings == ["first", "late", "resume"]


async def test_why_readers_left(autojump_clock: MockClock) -> None:
    why: list[str | None] = []
    async with open_scene(limits=Limits(max_lag=1)) as scene:
        with scene.hub.join("key", scene.source, origin=scene.asked, on_lag="evict") as slow:
            timing = timing_of(slow.generation)
            with scene.join():
                pass
            scene.arrive(token("a"))
            await wait_all_tasks_blocked()
            await read_on(slow)
            with scene.join() as stays:
                scene.source.complete()
                await read_on(stays)
    why = [reader.why for reader in timing.gone]

    assert why == ["gone", "completed", "slow"]


async def test_a_very_long_generation_keeps_the_times_of_its_last_reads(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        with scene.join() as subscriber:
            timing = timing_of(subscriber.generation)
            await wait_all_tasks_blocked()
            for number in range(2 * KEPT_READS + 10):
                scene.asked.tally.count(Message(None, token("a")))
                timing.arrived(0.5 * number)

    reads = timing.reads
    assert KEPT_READS <= len(reads.timeline()) <= 2 * KEPT_READS
    assert set(reads.gaps()) == set(reads.recent_gaps(2 * KEPT_READS)) == {0.5}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([5.0], {"p50": 5, "p90": 5, "p99": 5, "max": 5}),
        ([*range(1, 101)], {"p50": 50, "p90": 90, "p99": 99, "max": 100}),
        ([*range(1, 1001)], {"p50": 500, "p90": 900, "p99": 990, "max": 1000}),
    ],
)
def test_quantiles_are_by_nearest_rank(
    values: list[float], expected: dict[str, float] | None
) -> None:
    assert quantiles(values) == expected


async def test_what_came_before_the_transcript_was_full_is_timed(
    autojump_clock: MockClock,
) -> None:
    half = b'{"choices":[{"text":"%b"}]}' % (b"a" * 600)
    async with open_scene(limits=Limits(max_transcript_bytes=1_024)) as scene:
        joining = scene.hub.join("key", scene.source, origin=scene.asked, when_full="fail")
        with joining as subscriber:
            timing = timing_of(subscriber.generation)
            await trio.sleep(1)
            scene.arrive(half, half)
            await wait_all_tasks_blocked()
            await read_on(subscriber)
            reader = timing.readers[subscriber]

    assert subscriber.generation.outcome is not None
    assert subscriber.generation.outcome.reason == "too_large"
    assert describe_timing(timing)["timeline"] == [(1, 1.0)]
    assert (reader.cursor, reader.deliveries) == (1, 1)


async def test_what_is_told_of_the_gaps_is_worked_out_once_it_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        with scene.join() as subscriber:
            timing = timing_of(subscriber.generation)
            for _ in range(3):
                scene.arrive(token("a"))
                await trio.sleep(1)
            running = describe_timing(timing)
            await trio.sleep(1)
            scene.arrive(token("a"))
            scene.source.complete()
            await read_on(subscriber)
            ended, again = describe_timing(timing), describe_timing(timing)

    assert running["inter_token_seconds"] != ended["inter_token_seconds"]
    assert ended["inter_token_seconds"] is again["inter_token_seconds"]
