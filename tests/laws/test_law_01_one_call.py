"""Law 1: however many read it and however it ends, a generation makes one upstream call, and the
task that made the call is the one that ends it, inside that generation's nursery."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.source import DONE, ScriptedSource
from trioproxy.fanout import Generation, Limits, SourceFailed, open_hub


async def test_a_crowd_makes_one_call() -> None:
    sources = [ScriptedSource() for _ in range(50)]
    async with open_hub() as hub:
        with ExitStack() as crowd:
            for source in sources:
                crowd.enter_context(hub.join("key", source))
            await wait_all_tasks_blocked()

            assert [len(source.entries) for source in sources] == [1] + [0] * 49
            assert len(hub.running) == 1


async def test_a_joiner_of_a_running_generation_makes_no_call() -> None:
    first, second = ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", first):
            await wait_all_tasks_blocked()
            first.arrive(b"a")
            with hub.join("key", second):
                await wait_all_tasks_blocked()

    assert (len(first.entries), len(second.entries)) == (1, 0)


async def test_a_start_and_the_joiner_that_comes_for_it_make_one_call() -> None:
    first, second, third = ScriptedSource(), ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        started = hub.start("key", first, linger=30)
        with hub.join("key", second) as subscriber:
            again = hub.start("key", third, linger=30)
            await wait_all_tasks_blocked()

            assert started is subscriber.generation is again

    assert [len(source.entries) for source in (first, second, third)] == [1, 0, 0]


async def test_each_key_is_a_call_of_its_own() -> None:
    one, other = ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        with hub.join("one", one), hub.join("other", other):
            await wait_all_tasks_blocked()

            assert (len(one.entries), len(other.entries)) == (1, 1)


async def test_the_call_is_opened_and_closed_by_one_task_in_the_generations_nursery() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await subscriber.generation.wait_opened()
            task = source.entries[0].task
            nursery = task.parent_nursery

            assert nursery is not None
            assert nursery.parent_task.name == subscriber.generation.id

    assert [passage.task for passage in source.exits] == [task]


def complete(source: ScriptedSource, generation: Generation) -> None:
    source.arrive(DONE)
    source.end()


def break_off(source: ScriptedSource, generation: Generation) -> None:
    source.fail(SourceFailed("reset", "the connection was reset"))


def crash(source: ScriptedSource, generation: Generation) -> None:
    source.fail(ValueError("a bug in the source"))


def truncate(source: ScriptedSource, generation: Generation) -> None:
    source.end()


def cancel(source: ScriptedSource, generation: Generation) -> None:
    generation.cancel("stopped")


@pytest.mark.parametrize("end", [complete, break_off, crash, truncate, cancel])
async def test_the_source_is_left_once_whatever_ends_the_generation(
    end: Callable[[ScriptedSource, Generation], None],
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await subscriber.generation.wait_opened()
            end(source, subscriber.generation)
            await wait_all_tasks_blocked()

            assert (len(source.entries), len(source.exits)) == (1, 1)

    assert (len(source.entries), len(source.exits)) == (1, 1)


@pytest.mark.parametrize(("linger", "expected"), [(0.0, 0.0), (30.0, 30.0), (90.0, 60.0)])
async def test_the_source_is_left_once_when_the_readers_or_its_time_are_gone(
    linger: float, expected: float, autojump_clock: MockClock
) -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_seconds=60)) as hub:
        with hub.join("key", source, linger=linger) as subscriber:
            await subscriber.generation.wait_opened()
        await trio.sleep(100)

        assert len(source.entries) == 1
        assert [expected] == [passage.at for passage in source.exits]
