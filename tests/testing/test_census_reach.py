"""The census counts what was made within it: around runs, inside one, beside others, in threads."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Generator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioproxy.testing.census import Alive, Kind, Leaked, TaskCensus


def counts_within_a_scope(census: TaskCensus) -> Counter[Kind]:
    scope = trio.CancelScope()
    with scope:
        return census.counts


def test_nothing_of_trios_own_is_named_while_a_run_goes_on() -> None:
    async def main() -> tuple[Alive, ...]:
        await trio.to_thread.run_sync(int)
        return census.alive

    with TaskCensus() as census:
        assert trio.run(main, instruments=[census]) == ()


def test_what_a_run_holds_is_named_while_it_goes_on() -> None:
    async def main() -> Counter[Kind]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            return counts_within_a_scope(census)

    with TaskCensus() as census:
        counts = trio.run(main, instruments=[census])

    assert counts == {"nursery": 1, "task": 1, "cancel scope": 1}


def test_run_can_wait_for_itself_to_settle() -> None:
    async def main() -> None:
        end = trio.Event()
        trio.lowlevel.spawn_system_task(end.wait)
        trio.lowlevel.current_trio_token().run_sync_soon(end.set)
        await census.settled()

    with TaskCensus() as census:
        trio.run(main, instruments=[census])


def test_what_several_runs_left_is_named_together() -> None:
    async def main() -> None:
        kept.append(trio.open_memory_channel[None](1))

    def leak() -> None:
        with TaskCensus() as census:
            trio.run(main, instruments=[census])
            trio.run(main, instruments=[census])

    kept = []
    with pytest.raises(Leaked, match=": 2 x send channel, 2 x receive channel\n"):
        leak()


def test_scope_that_a_task_never_left_is_named_after_the_run() -> None:
    async def enter_and_exit() -> None:
        trio.CancelScope().__enter__()

    with pytest.raises(Leaked) as leak, TaskCensus() as census:
        trio.run(enter_and_exit, instruments=[census])

    [scope] = leak.value.alive
    assert scope.kind == "cancel scope"
    assert str(scope.created).endswith("    trio.CancelScope().__enter__()")


async def test_what_another_thread_makes_is_not_counted() -> None:
    with TaskCensus() as census:
        channel = await trio.to_thread.run_sync(trio.open_memory_channel[None], 1)
        assert len(channel) == 2
        assert census.alive == ()


async def test_runs_of_other_threads_are_counted_only_if_they_have_the_census() -> None:
    async def main() -> Counter[Kind]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)
            return census.counts

    def run_with(instruments: list[trio.abc.Instrument]) -> None:
        counts.append(trio.run(main, instruments=instruments))

    counts: list[Counter[Kind]] = []
    with TaskCensus() as census:
        await trio.to_thread.run_sync(run_with, [])
        await trio.to_thread.run_sync(run_with, [census])

    without = Counter({"descriptor": counts[0]["descriptor"]})
    assert [without, Counter(nursery=1, task=1)] == counts


@pytest.fixture
def eager_switching() -> Generator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_switching")
def test_threads_that_make_and_end_things_meanwhile_do_no_harm() -> None:
    async def main() -> None:
        while not enough.is_set():
            send, receive = trio.open_memory_channel[None](1)
            with send, receive, trio.CancelScope():
                await trio.lowlevel.checkpoint()

    enough = threading.Event()
    with TaskCensus() as census:
        channels = [trio.open_memory_channel[None](1) for _ in range(500)]
        threads = [
            threading.Thread(target=trio.run, args=[main], kwargs={"instruments": [census]})
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        looks = [census.counts for _ in range(10)]
        enough.set()
        for thread in threads:
            thread.join()
        for send, receive in channels:
            send.close()
            receive.close()

    assert all(500 <= counts["send channel"] <= 502 for counts in looks)


async def test_blocks_of_older_tasks_are_their_own_affair(nursery: trio.Nursery) -> None:
    async def older(bell: trio.MemoryReceiveChannel[None]) -> None:
        await bell.receive()
        async with trio.open_nursery() as own:
            own.start_soon(trio.sleep_forever, name="its child")
            with trio.CancelScope():
                await bell.receive()
            own.cancel_scope.cancel()

    rings, bell = trio.open_memory_channel[None](0)
    nursery.start_soon(older, bell)
    with TaskCensus() as census:
        await rings.send(None)
        await wait_all_tasks_blocked()
        assert [one.name for one in census.alive] == ["its child"]

        await rings.send(None)
        await census.settled()


async def test_nested_censuses_each_count_what_was_made_within_them() -> None:
    with TaskCensus() as outer:
        async with trio.open_nursery():
            with TaskCensus() as inner:
                async with trio.open_nursery():
                    assert inner.counts == {"nursery": 1}
                    assert outer.counts == {"nursery": 2}
                assert inner.counts == {}
            assert counts_within_a_scope(outer) == {"nursery": 1, "cancel scope": 1}


async def test_censuses_that_overlap_do_not_disturb_each_other() -> None:
    first, second = TaskCensus(), TaskCensus()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)

    assert counts_within_a_scope(second) == {"cancel scope": 1}
    second.__exit__(None, None, None)


async def test_census_can_be_taken_again(nursery: trio.Nursery) -> None:
    census = TaskCensus()
    with pytest.raises(Leaked), census:
        nursery.start_soon(trio.sleep_forever)

    with census:
        assert counts_within_a_scope(census) == {"cancel scope": 1}


async def test_census_is_no_instrument_of_the_run_any_more_when_it_is_left() -> None:
    with TaskCensus() as census:
        pass

    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(census)


async def test_census_is_not_taken_twice_at_once() -> None:
    with TaskCensus() as census:
        async with trio.open_nursery():
            with pytest.raises(RuntimeError, match="already"):
                census.__enter__()

            assert census.counts == {"nursery": 1}


def test_tasks_that_were_there_when_it_was_entered_are_not_counted() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            with census:
                assert census.alive == ()
                nursery.start_soon(trio.sleep, 0)
                assert census.counts == {"task": 1}
                await census.settled()
            nursery.cancel_scope.cancel()

    census = TaskCensus()
    trio.run(main, instruments=[census])
