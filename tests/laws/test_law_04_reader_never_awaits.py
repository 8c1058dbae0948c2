"""Law 4: the reader of the upstream waits for nobody who reads from it, and pays nothing for those
who do not listen: one ring a read for each that waits, however many tokens the read brought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.reading import Reading, read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import Subscriber, open_hub
from trioproxy.fanout.subscriber import Doorbell

Rings = Counter[Doorbell]


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Rings:
    """How often each doorbell was rung."""
    counted = Rings()
    ring = Doorbell.ring

    def count_and_ring(bell: Doorbell) -> None:
        counted[bell] += 1
        ring(bell)

    monkeypatch.setattr(Doorbell, "ring", count_and_ring)
    return counted


async def test_a_subscriber_that_never_reads_delays_nothing(mock_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as stuck, hub.join("key", source) as healthy:
            for _ in range(1_000):
                source.arrive(b"token")
            source.complete()
            reading = await read_to_end(healthy)
            await wait_all_tasks_blocked()

            assert stuck.cursor == 0
            assert reading.seqs == list(range(1, 1_002))
            assert not source.is_open
            assert trio.current_time() == 0


async def test_a_burst_in_one_read_loses_nothing_and_rings_each_who_waits_once(
    rings: Rings,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with ExitStack() as crowd:
            subscribers = [crowd.enter_context(hub.join("key", source)) for _ in range(10)]
            readings = [Reading() for _ in subscribers]
            async with trio.open_nursery() as nursery:
                for reading, subscriber in zip(readings, subscribers, strict=True):
                    nursery.start_soon(reading.follow, subscriber)
                await wait_all_tasks_blocked()

                source.arrive(*[b"token"] * 500)
                await wait_all_tasks_blocked()

                assert [reading.seqs for reading in readings] == [list(range(1, 501))] * 10
                assert [rings[subscriber.bell] for subscriber in subscribers] == [1] * 10
                source.complete()


async def test_the_bell_rings_when_all_of_the_read_is_there() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(*[b"token"] * 500)
            batch = await anext(subscriber)

    assert len(batch.events) == 500


async def test_who_does_not_wait_is_not_rung(rings: Rings) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as never_read, hub.join("key", source) as read_once:
            source.arrive(b"token")
            await anext(read_once)
            for _ in range(100):
                source.arrive(b"token")
            await wait_all_tasks_blocked()

            assert (rings[never_read.bell], rings[read_once.bell]) == (0, 1)


async def test_a_subscriber_waits_again_once_it_has_read(rings: Rings) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            for _ in range(3):
                source.arrive(b"token")
                await anext(subscriber)

    assert rings[subscriber.bell] == 3


async def test_a_subscriber_that_died_in_its_wait_costs_one_ring(rings: Rings) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as dead:
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(dead)
            for _ in range(100):
                source.arrive(b"token")
            await wait_all_tasks_blocked()

            assert rings[dead.bell] == 1


async def test_who_has_left_is_not_rung(rings: Rings) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source):
            with trio.CancelScope() as scope, hub.join("key", source) as leaver:
                scope.cancel()
                await anext(leaver)
            source.arrive(b"token")
            await wait_all_tasks_blocked()

            assert rings[leaver.bell] == 0


class StepsOf(trio.abc.Instrument):
    """Counts the steps that one task takes."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.count = 0
        self._task = task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


async def stall(subscriber: Subscriber) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("read", [read_to_end, stall])
async def test_the_reader_takes_as_many_steps_for_a_crowd_as_for_one(
    read: Callable[[Subscriber], Awaitable[object]],
) -> None:
    async def steps_with(crowd_size: int) -> int:
        async def join_and_read() -> None:
            with hub.join("key", source) as subscriber:
                await read(subscriber)

        source = ScriptedSource()
        async with open_hub() as hub, trio.open_nursery() as crowd:
            for _ in range(crowd_size):
                crowd.start_soon(join_and_read)
            await wait_all_tasks_blocked()
            steps = StepsOf(source.entries[0].task)
            trio.lowlevel.add_instrument(steps)
            for _ in range(20):
                source.arrive(b"token")
                await wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(steps)
            crowd.cancel_scope.cancel()
        return steps.count

    alone = await steps_with(1)

    assert alone > 0
    assert alone == await steps_with(50)
