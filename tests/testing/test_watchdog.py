"""Runs that do not end, and those that take long but end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from trioproxy.testing import watchdog
from trioproxy.testing.watchdog import Watchdog

SECONDS = 100.0


def run(main: Callable[[], Awaitable[object]], dog: Watchdog) -> None:
    trio.run(dog.watch, main, clock=MockClock(autojump_threshold=0), instruments=[dog])


def story_of(main: Callable[[], Awaitable[object]]) -> str:
    """What is told of a run that has to be ended."""
    dog = Watchdog(SECONDS)
    with pytest.raises(trio.TooSlowError):
        run(main, dog)
    return dog.story


async def wait_for_ever() -> None:
    await trio.sleep_forever()


async def wait_for_ever_in_a_shield() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def go_on_for_ever() -> None:
    while True:
        await trio.lowlevel.checkpoint()


def test_a_run_that_ends_has_no_story() -> None:
    dog = Watchdog(SECONDS)

    run(partial(trio.sleep, SECONDS - 1), dog)

    assert dog.story == ""


def test_a_run_that_waits_too_long_is_ended_and_its_tasks_are_named() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_ever, name="a waiter")
            await trio.sleep(1)

    story = story_of(main)

    assert story.startswith("after 100.0 virtual seconds the tasks stood here:\n")
    assert "\ntask a waiter:\n" in story
    assert "in wait_for_ever\n    await trio.sleep_forever()" in story


def test_a_run_that_lets_no_time_pass_is_ended_and_its_tasks_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "MAX_STEPS", 50)

    story = story_of(go_on_for_ever)

    assert story.startswith("no time passed in 50 steps, and the tasks stood here:\n")
    assert "in go_on_for_ever\n" in story


def test_steps_between_which_time_passes_are_not_counted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "MAX_STEPS", 50)
    dog = Watchdog(SECONDS)

    async def main() -> None:
        for _ in range(10):
            for _ in range(30):
                await trio.lowlevel.checkpoint()
            await trio.sleep(1)

    run(main, dog)

    assert dog.story == ""


def test_a_shield_that_keeps_a_run_from_being_ended_is_taken_away_and_named() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_ever_in_a_shield, name="the shielded")
            nursery.start_soon(wait_for_ever, name="the other")

    story = story_of(main)

    assert story.startswith("a shield without a deadline kept tasks from being cancelled here:\n")
    assert "\ntask the shielded:\n" in story
    assert "\ntask the other:\n" not in story


def test_shields_within_shields_are_all_taken_away() -> None:
    async def main() -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.shield = True
                nursery.start_soon(wait_for_ever_in_a_shield)
                nursery.start_soon(wait_for_ever_in_a_shield)

    assert "a shield without a deadline" in story_of(main)


def test_a_shield_with_a_deadline_is_waited_for() -> None:
    async def main() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(5, shield=True) as scope:
                await trio.sleep_forever()
            ended_after.append(trio.current_time() - began)
            assert scope.cancelled_caught

    began = 0.0
    ended_after: list[float] = []

    story = story_of(main)

    assert ended_after == [SECONDS + 5]
    assert story.startswith("after 100.0 virtual seconds the tasks stood here:\n")


def test_a_run_that_was_ended_but_does_not_fail_has_a_story_all_the_same() -> None:
    async def main() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(SECONDS + 1)

    dog = Watchdog(SECONDS)

    run(main, dog)

    assert dog.story.startswith("after 100.0 virtual seconds the tasks stood here:\n")
