"""Law 7: once the readers and the linger are gone, so are the call, its tasks and its place among
the running; and that holds after any cancellation, of anyone, at any step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.reading import Reading
from tests.support.source import DONE, ScriptedSource
from tests.support.stepping import AtStep
from trioproxy.fanout import (
    COMPLETED,
    Evicted,
    Generation,
    Hub,
    cancelled,
    grace,
    open_hub,
)
from trioproxy.testing import TaskCensus


def still_entering() -> ScriptedSource:
    return ScriptedSource(entering=trio.sleep_forever)


def waiting_for_the_first_event() -> ScriptedSource:
    return ScriptedSource()


def between_events() -> ScriptedSource:
    source = ScriptedSource()
    source.arrive(b"a", b"b")
    return source


def with_events_to_come() -> ScriptedSource:
    source = ScriptedSource()
    for _ in range(100):
        source.arrive(b"a")
    return source


def in_the_rest_of_the_body() -> ScriptedSource:
    source = ScriptedSource()
    source.arrive(b"a", DONE)
    return source


def hanging_in_leaving() -> ScriptedSource:
    source = ScriptedSource(leaving=trio.sleep_forever)
    source.complete(b"a")
    return source


PHASES = [
    still_entering,
    waiting_for_the_first_event,
    between_events,
    with_events_to_come,
    in_the_rest_of_the_body,
    hanging_in_leaving,
]


@pytest.mark.parametrize("linger", [0.0, 30.0])
@pytest.mark.parametrize("phase", PHASES)
async def test_nothing_is_left_when_the_last_reader_is_gone(
    phase: Callable[[], ScriptedSource], linger: float, autojump_clock: MockClock
) -> None:
    source = phase()
    async with open_hub() as hub:
        with TaskCensus():
            with hub.join("key", source, linger=linger):
                await wait_all_tasks_blocked()
            await trio.sleep(linger + 2)
            await wait_all_tasks_blocked()

        assert not source.is_open
        assert list(hub.running) == []
        assert len(hub.retained) == 1


async def test_readers_that_vanish_one_by_one_leave_nothing(autojump_clock: MockClock) -> None:
    async def read_for(seconds: float, source: ScriptedSource) -> None:
        with trio.move_on_after(seconds), hub.join("key", source) as subscriber:
            await Reading().follow(subscriber)

    sources = [ScriptedSource() for _ in range(100)]
    async with open_hub() as hub:
        with TaskCensus():
            async with trio.open_nursery() as crowd:
                for number, source in enumerate(sources):
                    crowd.start_soon(read_for, number % 7, source)
            await wait_all_tasks_blocked()

        assert [source for source in sources if source.is_open] == []
        assert list(hub.running) == []


async def test_closing_the_hub_leaves_nothing_and_tells_every_reader() -> None:
    async def read(key: str, source: ScriptedSource, reading: Reading) -> None:
        with hub.join(key, source) as subscriber:
            await reading.follow(subscriber)

    sources = [ScriptedSource(), ScriptedSource(entering=trio.sleep_forever)]
    readings = [Reading(), Reading()]
    with TaskCensus():
        async with trio.open_nursery() as readers:
            async with open_hub() as hub:
                for key, source, reading in zip("ab", sources, readings, strict=True):
                    readers.start_soon(read, key, source, reading)
                await wait_all_tasks_blocked()

            assert [source.is_open for source in sources] == [False, False]

    assert [reading.end for reading in readings] == [cancelled("shutdown")] * 2


async def test_closing_the_hub_sends_away_who_still_reads_what_has_ended() -> None:
    source = ScriptedSource()
    source.complete(b"a")
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await wait_all_tasks_blocked()
            hub.close()
            reading = Reading()
            await reading.follow(subscriber)

    assert (reading.told, reading.end) == ([], Evicted("draining"))
    assert subscriber.generation.outcome == COMPLETED


async def test_the_hub_waits_for_a_source_that_is_left_in_good_order(
    autojump_clock: MockClock,
) -> None:
    async def leave_in_good_order() -> None:
        with grace(5):
            await trio.sleep(1)

    source = ScriptedSource(leaving=leave_in_good_order)
    async with open_hub() as hub:
        hub.start("key", source, linger=30)
        await wait_all_tasks_blocked()

    assert [passage.at for passage in source.exits] == [1]


async def test_an_owner_that_is_cancelled_takes_its_hub_along() -> None:
    async def keep_a_hub(task_status: trio.TaskStatus[Generation]) -> None:
        async with open_hub() as hub:
            task_status.started(hub.start("key", source, linger=30))
            await trio.sleep_forever()

    source = ScriptedSource()
    with TaskCensus():
        async with trio.open_nursery() as outside:
            lingering = await outside.start(keep_a_hub)
            await wait_all_tasks_blocked()
            outside.cancel_scope.cancel()

    assert not source.is_open
    assert lingering.outcome == cancelled("shutdown")


async def test_an_owner_that_crashes_takes_its_hub_along() -> None:
    async def keep_a_hub() -> None:
        async with open_hub() as hub:
            hub.start("key", source, linger=30)
            await wait_all_tasks_blocked()
            raise ValueError("a bug in the server")

    source = ScriptedSource()
    with TaskCensus(), pytest.raises(ExceptionGroup) as crash:
        await keep_a_hub()

    assert crash.group_contains(ValueError, match="a bug in the server")
    assert not source.is_open


class Life:
    """A generation's whole life, with two readers, to be cut short at any step."""

    def __init__(self) -> None:
        self.hub: Hub | None = None
        self.owner = trio.CancelScope()
        self.reader = trio.CancelScope()
        self.source = ScriptedSource()
        self.source.arrive(b"a")
        self.source.complete(b"b")

    async def run(self) -> None:
        with self.owner:
            async with open_hub() as self.hub, trio.open_nursery() as readers:
                readers.start_soon(self._read, self.reader)
                readers.start_soon(self._read, trio.CancelScope())

    async def _read(self, scope: trio.CancelScope) -> None:
        assert self.hub is not None
        with scope, self.hub.join("key", self.source) as subscriber:
            await Reading().follow(subscriber)

    def cancel_the_owner(self) -> None:
        self.owner.cancel()

    def cancel_a_reader(self) -> None:
        self.reader.cancel()

    def cancel_the_generation(self) -> None:
        for generation in [] if self.hub is None else list(self.hub.running):
            generation.cancel("stopped")


@pytest.mark.parametrize(
    "cut",
    [
        Life.cancel_the_owner,
        Life.cancel_a_reader,
        Life.cancel_the_generation,
    ],
)
async def test_a_cancellation_at_any_step_leaves_nothing(cut: Callable[[Life], None]) -> None:
    steps, reached = 0, True
    while reached:
        steps += 1
        life = Life()
        with TaskCensus(), AtStep(steps, lambda life=life: cut(life)) as instant:
            await life.run()

        assert not life.source.is_open
        assert life.hub is None or list(life.hub.running) == []
        reached = instant.was_reached

    assert steps > 10
