"""Law 3: the reader that leaves last takes the call with it in the same tick; a linger only moves
the moment, as a deadline and not as a task, and a generation past its deadline takes no one in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.reading import read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import Generation, Hub, Limits, cancelled, open_hub

ABANDONED = cancelled("abandoned")
DEADLINE = cancelled("deadline")


async def test_the_last_leave_ends_the_call_in_the_same_tick(mock_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await subscriber.generation.wait_opened()

        assert subscriber.generation.outcome == ABANDONED
        await wait_all_tasks_blocked()
        assert not source.is_open


async def test_a_leave_that_is_not_the_last_ends_nothing() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as stays:
            with hub.join("key", source):
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()

            assert stays.generation.outcome is None
            assert source.is_open


async def test_a_reader_that_leaves_before_the_call_was_made_ends_it() -> None:
    source = ScriptedSource(entering=trio.sleep_forever)
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            pass
        await wait_all_tasks_blocked()

        assert subscriber.generation.outcome == ABANDONED
        assert not source.is_open


async def test_a_linger_keeps_the_call_until_it_is_over(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        await trio.sleep(5)
        with hub.join("key", source, linger=30) as subscriber:
            await trio.sleep(10)
        await trio.sleep(29)
        assert subscriber.generation.outcome is None

        await trio.sleep(100)

        assert subscriber.generation.outcome == ABANDONED
        assert [passage.at for passage in source.exits] == [45]


async def test_a_linger_is_no_task(nursery: trio.Nursery) -> None:
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource(), linger=30):
            await wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
        await wait_all_tasks_blocked()

        assert before == trio.lowlevel.current_statistics().tasks_living


async def test_a_join_during_the_linger_keeps_the_one_call(autojump_clock: MockClock) -> None:
    source, unused = ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source, linger=30) as first:
            await trio.sleep(1)
        await trio.sleep(29)
        with hub.join("key", unused) as second:
            await trio.sleep(1_000)

            assert first.generation is second.generation
            assert second.generation.outcome is None
            assert (len(source.entries), len(unused.entries)) == (1, 0)


async def test_each_last_leave_begins_the_linger_anew(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        for _ in range(3):
            with hub.join("key", source, linger=30):
                await trio.sleep(10)
            await trio.sleep(20)
        await trio.sleep(100)

    assert [passage.at for passage in source.exits] == [10 + 20 + 10 + 20 + 10 + 30]


@pytest.mark.parametrize("lingers", [(30, 0), (0, 30), (10, 30), (30, 10)])
async def test_the_longest_linger_that_was_asked_for_counts(
    lingers: tuple[float, float], autojump_clock: MockClock
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with (
            hub.join("key", source, linger=lingers[0]),
            hub.join("key", source, linger=lingers[1]),
        ):
            await wait_all_tasks_blocked()
        await trio.sleep(100)

    assert [passage.at for passage in source.exits] == [30]


async def test_a_start_that_nobody_comes_for_ends_with_its_linger(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        generation = hub.start("key", source, linger=30)
        await trio.sleep(100)

        assert generation.outcome == ABANDONED
        assert [passage.at for passage in source.exits] == [30]


async def test_a_started_generation_that_is_joined_in_time_goes_on(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        generation = hub.start("key", source, linger=30)
        await trio.sleep(29)
        with hub.subscribe(generation.id):
            await trio.sleep(100)

            assert generation.outcome is None


async def test_a_start_that_finds_a_running_one_lets_it_linger_as_long_as_it_asked(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source):
            hub.start("key", ScriptedSource(), linger=30)
            await trio.sleep(10)
        await trio.sleep(100)

    assert [passage.at for passage in source.exits] == [10 + 30]


async def test_a_start_that_finds_a_lingering_one_begins_its_linger_anew(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        hub.start("key", source, linger=30)
        await trio.sleep(20)
        hub.start("key", ScriptedSource(), linger=15)
        await trio.sleep(100)

    assert [passage.at for passage in source.exits] == [20 + 30]


# -- in the same tick ------------------------------------------------------------------------------


async def test_a_joiner_right_after_the_last_leave_gets_a_new_generation() -> None:
    old_source, new_source = ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", old_source) as old:
            await wait_all_tasks_blocked()
        with hub.join("key", new_source) as new:
            assert old.generation is not new.generation
            assert old.generation.outcome == ABANDONED
            await wait_all_tasks_blocked()

            assert new.generation.outcome is None
            assert (old_source.is_open, new_source.is_open) == (False, True)


async def test_a_joiner_right_after_the_last_leave_finds_a_lingering_generation() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source, linger=1) as old:
            await wait_all_tasks_blocked()
        with hub.join("key", source) as new:
            assert old.generation is new.generation
            assert new.generation.outcome is None


@pytest.mark.parametrize("linger", [0, 30])
async def test_a_joiner_right_before_the_last_leave_keeps_the_generation(linger: float) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        leaver = hub.join("key", source, linger=linger)
        old = leaver.__enter__()
        await wait_all_tasks_blocked()
        with hub.join("key", source) as new:
            leaver.__exit__(None, None, None)
            await wait_all_tasks_blocked()

            assert old.generation is new.generation
            assert new.generation.outcome is None
            assert source.is_open


# -- at the deadline -------------------------------------------------------------------------------


async def test_a_joiner_at_the_deadline_gets_a_new_generation(mock_clock: MockClock) -> None:
    old_source, new_source = ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", old_source, linger=30) as old:
            await old.generation.wait_opened()
        mock_clock.jump(30)  # the deadline has passed, and trio has not run since
        with hub.join("key", new_source) as new:
            assert old.generation is not new.generation
            assert old.generation.outcome == ABANDONED
            await wait_all_tasks_blocked()

            assert new.generation.outcome is None
            assert (old_source.is_open, new_source.is_open) == (False, True)


async def test_a_joiner_just_before_the_deadline_saves_the_generation(
    mock_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source, linger=30) as old:
            await old.generation.wait_opened()
        mock_clock.jump(29.999)
        with hub.join("key", source) as new:
            mock_clock.jump(30)
            await wait_all_tasks_blocked()

            assert old.generation is new.generation
            assert new.generation.outcome is None


def start_again(hub: Hub, old: Generation) -> Generation:
    return hub.start("key", ScriptedSource(), linger=30)


def find(hub: Hub, old: Generation) -> Generation | None:
    return hub.find("key")


@pytest.mark.parametrize("look_up", [start_again, find])
async def test_a_lookup_at_the_deadline_does_not_find_the_old_one(
    look_up: Callable[[Hub, Generation], Generation | None], mock_clock: MockClock
) -> None:
    async with open_hub() as hub:
        old = hub.start("key", ScriptedSource(), linger=30)
        await old.wait_opened()
        mock_clock.jump(30)
        found = look_up(hub, old)

        assert old is not found
        assert old.outcome == ABANDONED


async def test_a_subscriber_by_id_at_the_deadline_reads_what_there_was(
    mock_clock: MockClock,
) -> None:
    source = ScriptedSource()
    source.arrive(b"a")
    async with open_hub() as hub:
        generation = hub.start("key", source, linger=30)
        await wait_all_tasks_blocked()
        mock_clock.jump(30)
        with hub.subscribe(generation.id) as subscriber:
            reading = await read_to_end(subscriber)

    assert reading.data == [b"a"]
    assert reading.end == ABANDONED


class CreepingClock(trio.abc.Clock):
    """A clock that moves on by a second at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def start_clock(self) -> None:
        """It creeps from the first look on."""

    def current_time(self) -> float:
        self.now += 1
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0  # it moves by being looked at


def test_a_join_looks_at_the_deadline_once() -> None:
    async def join_before_the_deadline(looks: int, clock: CreepingClock) -> bool:
        async with open_hub() as hub:
            with hub.join("key", ScriptedSource(), linger=1_000) as old:
                pass
            clock.now += 999 - looks
            with hub.join("key", ScriptedSource()) as new:
                assert new.generation.outcome is None
                return old.generation is new.generation

    found: list[bool] = []
    for looks in range(5):
        clock = CreepingClock()
        found.append(trio.run(join_before_the_deadline, looks, clock, clock=clock))

    assert found == [False, True, True, True, True]


# -- and its own time ------------------------------------------------------------------------------


async def test_a_generations_time_ends_it_though_it_is_read(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_seconds=60)) as hub:
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)

    assert reading.end == DEADLINE
    assert [passage.at for passage in source.exits] == [60]


async def test_a_linger_does_not_outlast_the_generations_time(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_seconds=60)) as hub:
        with hub.join("key", source, linger=50) as subscriber:
            await trio.sleep(40)
        await trio.sleep(100)

        assert subscriber.generation.outcome == DEADLINE
        assert [passage.at for passage in source.exits] == [60]


async def test_a_join_during_the_linger_gives_back_only_the_generations_own_time(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_seconds=60)) as hub:
        with hub.join("key", source, linger=50):
            await trio.sleep(5)
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)

    assert reading.end == DEADLINE
    assert [passage.at for passage in source.exits] == [60]
