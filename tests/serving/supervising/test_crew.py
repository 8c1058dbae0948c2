"""So many workers, whatever becomes of each: in virtual time, and they are no processes."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.serving.supervising.staff import Staff
from trioproxy.serving.supervising.crew import CannotStart, Crew, Employee, open_crew


@asynccontextmanager
async def crew_of(staff: Staff, number: int = 2) -> AsyncGenerator[Crew]:
    """Such a crew, all of them ready."""
    with trio.fail_after(1000):
        async with open_crew(staff.hire, lambda worker: None) as crew:
            await crew.start(number)
            yield crew


def soon() -> float:
    return 5.0


async def test_all_start_together_and_are_ready(autojump_clock: MockClock) -> None:
    staff = Staff(start=3.0)
    began = trio.current_time()
    async with crew_of(staff, 4) as crew:
        assert trio.current_time() == began + 3
        assert [worker.is_ready for worker in crew.workers] == [True] * 4
    assert staff.closed == 4


async def test_one_that_ends_by_itself_is_replaced_and_the_others_stay(
    autojump_clock: MockClock,
) -> None:
    staff = Staff()
    async with crew_of(staff) as crew:
        staff.actors[0].die()
        await trio.sleep(5)

        assert {worker.pid for worker in crew.workers} == {2, 3}
        assert all(worker.is_ready for worker in crew.workers)
        assert staff.actors[1].signals == []
        assert crew.restarts == 1


async def test_each_pause_is_twice_as_long_until_one_has_lived_for_a_while(
    autojump_clock: MockClock,
) -> None:
    staff = Staff(start=None)
    async with open_crew(staff.hire, lambda worker: None) as crew:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crew.start, 1)
            await wait_all_tasks_blocked()
            staff.actors[0].be_ready()
        pauses: list[float] = []
        for lived in (*[0.0] * 9, 10.0, 0.0):
            await trio.sleep(lived)
            died_at, number = trio.current_time(), len(staff.actors)
            staff.actors[-1].die()
            while len(staff.actors) == number:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.05)
            pauses.append(staff.hired_at[-1] - died_at)

    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 0.1, 0.2])


async def test_where_one_ends_before_it_is_ready_nothing_starts(autojump_clock: MockClock) -> None:
    staff = Staff(start=None)
    with pytest.RaisesGroup(
        pytest.RaisesExc(CannotStart, match="ended with 2"), flatten_subgroups=True
    ):
        async with open_crew(staff.hire, lambda worker: None) as crew, trio.open_nursery() as tasks:
            tasks.start_soon(crew.start, 2)
            await wait_all_tasks_blocked()
            staff.actors[0].be_ready()
            staff.actors[1].die(2)

    assert staff.closed == 2


async def test_they_are_relieved_one_by_one(autojump_clock: MockClock) -> None:
    staff = Staff(drain=3.0)
    async with crew_of(staff) as crew:
        staff.record.clear()
        assert await crew.relieve(soon)

        assert staff.record == [
            *("3 hired", "3 ready", "1 goes", "1 ended"),
            *("4 hired", "4 ready", "2 goes", "2 ended"),
        ]
        await trio.sleep(60)
        assert {worker.pid for worker in crew.workers} == {3, 4}
        assert crew.restarts == 0


async def test_one_that_was_relieved_and_its_successor_are_replaced_as_any(
    autojump_clock: MockClock,
) -> None:
    staff = Staff()
    async with crew_of(staff) as crew:
        await crew.relieve(soon)
        staff.actors[2].die()
        await trio.sleep(5)

        assert {worker.pid for worker in crew.workers} == {4, 5}


async def test_where_a_new_one_does_not_get_ready_the_others_stay(
    autojump_clock: MockClock,
) -> None:
    staff = Staff()
    async with crew_of(staff) as crew:
        staff.start = None
        async with trio.open_nursery() as nursery:

            async def relieve() -> None:
                assert not await crew.relieve(soon)

            nursery.start_soon(relieve)
            await wait_all_tasks_blocked()
            staff.actors[2].die(1)

        await trio.sleep(60)
        assert {worker.pid for worker in crew.workers} == {1, 2}
        assert staff.actors[0].signals == staff.actors[1].signals == []


async def test_one_that_ends_while_its_successor_starts_leaves_one_seat_to_one(
    autojump_clock: MockClock,
) -> None:
    staff = Staff(start=10.0)
    async with crew_of(staff) as crew:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crew.relieve, soon)
            await trio.sleep(1)
            staff.actors[0].die()
        await trio.sleep(60)

        assert {worker.pid for worker in crew.workers} == {3, 4}
        assert len(staff.actors) == 4


async def test_one_that_does_not_go_in_time_is_killed(autojump_clock: MockClock) -> None:
    staff = Staff(drain=1000.0)
    async with crew_of(staff, 1) as crew:
        began = trio.current_time()
        assert await crew.relieve(soon)

        assert trio.current_time() == began + 1 + 5
        await wait_all_tasks_blocked()
        assert staff.actors[0].signals == [signal.SIGTERM, signal.SIGKILL]
        assert {worker.pid for worker in crew.workers} == {2}


async def test_one_that_starts_is_told_to_load_its_settings_when_it_is_ready(
    autojump_clock: MockClock,
) -> None:
    staff = Staff(start=5.0)
    async with crew_of(staff) as crew:
        staff.actors[0].die()
        await trio.sleep(1)
        crew.reload()
        await wait_all_tasks_blocked()
        assert [actor.signals for actor in staff.actors[1:]] == [[signal.SIGHUP], []]
        await trio.sleep(5)
        assert [actor.signals for actor in staff.actors[1:]] == [[signal.SIGHUP]] * 2


async def test_at_the_end_nobody_is_hired_any_more(autojump_clock: MockClock) -> None:
    staff = Staff(drain=3.0)
    async with crew_of(staff) as crew:
        began = trio.current_time()
        crew.end()
        await crew.wait_ended()

        assert trio.current_time() == began + 3
        assert [actor.signals for actor in staff.actors] == [[signal.SIGTERM]] * 2
        await trio.sleep(60)
        assert len(staff.actors) == 2


@pytest.mark.parametrize("after", [0.5, 2.0, 5.0])
async def test_an_end_while_they_are_relieved_is_an_end(
    after: float, autojump_clock: MockClock
) -> None:
    staff = Staff(drain=3.0)
    async with crew_of(staff, 3) as crew, trio.open_nursery() as nursery:
        nursery.start_soon(crew.relieve, soon)
        await trio.sleep(after)  # the new one starts; the old one drains; the next one starts
        hired = len(staff.actors)
        crew.end()
        await crew.wait_ended()
        await trio.sleep(60)

        assert len(staff.actors) == hired
        assert all(actor.code is not None for actor in staff.actors)
        assert [actor.signals for actor in staff.actors] == [[signal.SIGTERM]] * hired


async def test_told_twice_they_hear_it_twice_and_those_that_drained_too(
    autojump_clock: MockClock,
) -> None:
    staff = Staff(drain=3.0)
    async with crew_of(staff) as crew, trio.open_nursery() as nursery:
        nursery.start_soon(crew.relieve, soon)
        await trio.sleep(2)
        crew.end()
        crew.end()

        assert [actor.signals for actor in staff.actors] == [[signal.SIGTERM] * 2] * 3
        await crew.wait_ended()


@pytest.mark.parametrize("steps", range(6))
async def test_one_that_is_being_hired_at_the_end_goes_too(
    steps: int, autojump_clock: MockClock
) -> None:
    staff = Staff()
    async with crew_of(staff) as crew, trio.open_nursery() as nursery:
        nursery.start_soon(crew.relieve, soon)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        began = trio.current_time()
        crew.end()
        await crew.wait_ended()

        assert trio.current_time() <= began + 1
        assert all(actor.code is not None for actor in staff.actors)


async def test_where_the_system_has_no_room_it_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    staff = Staff()
    async with crew_of(staff) as crew:
        staff.refuses = 3
        staff.actors[0].die()
        await trio.sleep(5)

        assert {worker.pid for worker in crew.workers} == {2, 3}
        assert crew.restarts == 1
    assert caplog.text.count("no room for a process") == 3


async def test_who_has_ended_is_told_of_once(autojump_clock: MockClock) -> None:
    staff = Staff()
    ended: list[Employee] = []
    async with open_crew(staff.hire, ended.append) as crew:
        await crew.start(2)
        staff.actors[0].die()
        await trio.sleep(5)
        assert [worker.pid for worker in ended] == [1]
    assert sorted(worker.pid for worker in ended) == [1, 2, 3]
