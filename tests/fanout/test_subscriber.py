"""One reader: how it waits, that a cancelled read loses nothing, and what becomes of it when it
lags."""

from __future__ import annotations

import pytest
import trio
from trio.testing import (
    assert_checkpoints,
    wait_all_tasks_blocked,
)

from tests.support.reading import Reading, read_to_end
from tests.support.source import ScriptedSource
from tests.support.stepping import AtStep
from trioproxy.fanout import (
    COMPLETED,
    Evicted,
    Gap,
    Limits,
    OnLag,
    Subscriber,
    open_hub,
)

HUNDRED = Limits(max_lag=100)

# -- waiting ---------------------------------------------------------------------------------------


async def test_reading_is_always_a_checkpoint() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            with assert_checkpoints():  # it has to wait
                source.arrive(b"a")
                await anext(subscriber)
            source.complete(b"b")
            await wait_all_tasks_blocked()
            with assert_checkpoints():  # there is something
                await anext(subscriber)
            for _ in range(2):
                with assert_checkpoints(), pytest.raises(StopAsyncIteration):  # it has ended
                    await anext(subscriber)


async def test_a_read_cancelled_while_it_waits_loses_nothing() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Reading().follow, subscriber)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            source.complete(b"a")
            reading = await read_to_end(subscriber)

    assert reading.data == [b"a", b"[DONE]"]


async def test_a_read_cancelled_in_the_tick_of_the_ring_loses_nothing() -> None:
    source = ScriptedSource()
    reading = Reading()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reading.follow, subscriber)
                await wait_all_tasks_blocked()
                subscriber.generation.transcript.append(None, b"a")
                subscriber.bell.ring()
                nursery.cancel_scope.cancel()
            source.complete(b"b")
            await reading.follow(subscriber)

    assert reading.data == [b"a", b"b", b"[DONE]"]


async def test_a_read_cancelled_at_its_checkpoint_loses_nothing() -> None:
    source = ScriptedSource()
    source.complete(b"a")
    reading = Reading()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await reading.follow(subscriber)
            assert reading.told == []
            await reading.follow(subscriber)

    assert reading.data == [b"a", b"[DONE]"]


async def test_a_read_cancelled_at_any_step_loses_and_doubles_nothing() -> None:
    async def follow_until_cancelled(
        subscriber: Subscriber, reading: Reading, scope: trio.CancelScope, cut: AtStep
    ) -> None:
        with scope, cut:
            await reading.follow(subscriber)

    steps, reached = 0, True
    while reached:
        steps += 1
        source = ScriptedSource()
        for number in range(5):
            source.arrive(b"%d" % number)
        reading = Reading()
        scope = trio.CancelScope()
        cut = AtStep(steps, scope.cancel)
        async with open_hub() as hub:
            with hub.join("key", source) as subscriber:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follow_until_cancelled, subscriber, reading, scope, cut)
                    await wait_all_tasks_blocked()
                    scope.cancel()
                source.complete()
                await reading.follow(subscriber)

        assert reading.seqs == [1, 2, 3, 4, 5, 6]
        reached = cut.was_reached

    assert steps > 3


async def test_a_ring_in_vain_wakes_nobody_for_good() -> None:
    source = ScriptedSource()
    reading = Reading()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reading.follow, subscriber)
                await wait_all_tasks_blocked()
                subscriber.bell.ring()
                await wait_all_tasks_blocked()
                assert (reading.told, reading.end) == ([], None)
                source.complete(b"a")

    assert reading.data == [b"a", b"[DONE]"]


# -- lagging ---------------------------------------------------------------------------------------


async def test_lag_is_what_came_since_the_join_and_was_not_read() -> None:
    source = ScriptedSource()
    lags: list[int] = []
    async with open_hub() as hub:
        with hub.join("key", source):
            source.arrive(b"x" * 500)
            await wait_all_tasks_blocked()
            with hub.join("key", source) as late:
                lags.append(late.lag)
                source.arrive(b"x" * 30)
                source.arrive(b"x" * 4)
                await wait_all_tasks_blocked()
                lags.append(late.lag)
                await anext(late)
                lags.append(late.lag)

    assert lags == [0, 34, 0]


async def lag_by(size: int, on_lag: OnLag) -> Reading:
    """What a reader with this policy sees that finds so many bytes, then two more events."""
    source = ScriptedSource()
    async with open_hub(HUNDRED) as hub:
        with hub.join("key", source, on_lag=on_lag) as subscriber:
            source.arrive(*[b"x"] * size)
            await wait_all_tasks_blocked()
            reading = Reading()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reading.follow, subscriber)
                await wait_all_tasks_blocked()
                source.complete(b"live")
    return reading


@pytest.mark.parametrize("on_lag", ["wait", "skip", "evict"])
async def test_a_lag_up_to_the_limit_costs_nothing(on_lag: OnLag) -> None:
    reading = await lag_by(100, on_lag)

    assert reading.seqs == list(range(1, 103))
    assert reading.end == COMPLETED


async def test_who_waits_reads_all_of_it_however_far_behind() -> None:
    reading = await lag_by(5_000, "wait")

    assert reading.seqs == list(range(1, 5_003))
    assert reading.end == COMPLETED


async def test_who_skips_is_told_of_the_gap_and_goes_on_live() -> None:
    reading = await lag_by(101, "skip")

    assert reading.told[0] == Gap(1, 101)
    assert reading.data == [b"live", b"[DONE]"]
    assert reading.end == COMPLETED


async def test_who_is_to_be_evicted_is_sent_away_as_slow() -> None:
    reading = await lag_by(101, "evict")

    assert reading.told == []
    assert reading.end == Evicted("slow")


@pytest.mark.parametrize("on_lag", ["skip", "evict"])
async def test_behind_what_has_ended_nobody_falls_any_further(on_lag: OnLag) -> None:
    source = ScriptedSource()
    async with open_hub(HUNDRED) as hub:
        with hub.join("key", source, on_lag=on_lag) as subscriber:
            source.arrive(*[b"x"] * 500)
            source.complete(b"the last word")
            await wait_all_tasks_blocked()
            reading = await read_to_end(subscriber)

    assert reading.seqs == list(range(1, 503))
    assert reading.end == COMPLETED


@pytest.mark.parametrize("on_lag", ["skip", "evict"])
async def test_history_is_no_lag(on_lag: OnLag) -> None:
    source = ScriptedSource()
    async with open_hub(HUNDRED) as hub:
        with hub.join("key", source):
            source.arrive(*[b"x" * 1_000] * 100)
            await wait_all_tasks_blocked()
            with hub.join("key", source, on_lag=on_lag) as late:
                source.complete(b"x" * 50)
                reading = await read_to_end(late)

    assert reading.seqs == list(range(1, 103))
    assert reading.end == COMPLETED


@pytest.mark.parametrize("on_lag", ["skip", "evict"])
async def test_a_gap_that_was_told_is_no_lag_any_more(on_lag: OnLag) -> None:
    source = ScriptedSource()
    source.complete(*[b"x" * 100] * 50)
    async with open_hub(Limits(max_lag=100, max_hub_bytes=20_000)) as hub:
        generation = hub.start(None, source, linger=30)
        await wait_all_tasks_blocked()
        with hub.subscribe(generation.id, on_lag=on_lag) as subscriber:
            generation.transcript.clear()
            reading = await read_to_end(subscriber)

    assert (reading.told, reading.end) == ([Gap(1, 51)], COMPLETED)


async def test_an_evicted_subscriber_that_waits_is_woken() -> None:
    reading = Reading()
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource()) as subscriber:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reading.follow, subscriber)
                await wait_all_tasks_blocked()
                subscriber.evict("limit")

    assert reading.end == Evicted("limit")


async def test_the_first_eviction_stands() -> None:
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource()) as subscriber:
            subscriber.evict("draining")
            subscriber.evict("slow")

    assert subscriber.end == Evicted("draining")


async def test_who_left_without_an_end_has_none() -> None:
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource()) as subscriber:
            pass

    assert subscriber.end is None
