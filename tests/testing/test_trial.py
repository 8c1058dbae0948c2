"""What a scenario is handed, and what trio tells it."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from trioproxy.testing import Trial

T = TypeVar("T")

FAULT = OSError(errno.EHOSTUNREACH, "no route to host")


def run(trial: Trial, scenario: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        await trio.lowlevel.checkpoint()  # trio's own task makes its only step
        return await scenario()

    return trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[trial])


async def _two_checkpoints() -> None:
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


# -- cancelling ------------------------------------------------------------------------------------


def test_the_target_is_cancelled_at_the_point_and_nothing_around_it() -> None:
    trial = Trial(checkpoint=2)
    log: list[str] = []

    async def scenario() -> None:
        with trial.target() as scope:
            await trio.lowlevel.checkpoint()
            log.append("first")
            await trio.lowlevel.checkpoint()
            log.append("second")
        log.append("cancelled" if scope.cancelled_caught else "through")
        await _two_checkpoints()

    run(trial, scenario)

    assert (log, trial.struck) == (["first", "cancelled"], True)


def test_a_trial_of_no_point_strikes_nothing() -> None:
    trial = Trial()

    async def scenario() -> None:
        with trial.target() as scope:
            await _two_checkpoints()
        assert not scope.cancel_called

    run(trial, scenario)

    assert (trial.struck, trial.where) == (False, "nowhere")


def test_where_the_blow_fell_is_told_with_the_task_and_its_calls() -> None:
    trial = Trial(checkpoint=1)

    async def scenario() -> None:
        trio.lowlevel.current_task().name = "the walker"
        with trial.target():
            await _two_checkpoints()

    run(trial, scenario)

    told, *calls = trial.where.splitlines()
    functions = [line.rpartition(" in ")[2] for line in calls if line.startswith("  File")]
    assert told == "task the walker was about to go on here:"
    assert functions[:4] == ["main", "scenario", "_two_checkpoints", "checkpoint"]


def test_where_every_task_waits_each_is_told() -> None:
    trial = Trial(checkpoint=3)

    async def scenario() -> None:
        trio.lowlevel.current_task().name = "the parent"
        with trial.target():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 1, name="one child")
                nursery.start_soon(trio.sleep, 1, name="another child")

    run(trial, scenario)

    told = [line for line in trial.where.splitlines() if not line.startswith("  ")]
    assert told[:2] == ["every task waited here:", "task the parent:"]
    assert set(told[2:]) == {"task one child:", "task another child:"}


def test_points_are_counted_on_over_several_targets() -> None:
    async def scenario(trial: Trial) -> list[bool]:
        cancelled: list[bool] = []
        for _ in range(3):
            with trial.target() as scope:
                await trio.lowlevel.checkpoint()
            cancelled.append(scope.cancelled_caught)
            await _two_checkpoints()
        return cancelled

    outcomes: list[list[bool]] = []
    for point in (1, 2, 3, 4):
        trial = Trial(checkpoint=point)
        outcomes.append(run(trial, lambda trial=trial: scenario(trial)))

    assert outcomes == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
        [False, False, False],
    ]


def test_a_blow_of_ones_own_is_called_once_between_two_steps() -> None:
    trial = Trial(checkpoint=1)
    log: list[str] = []

    async def scenario() -> None:
        with trial.armed(lambda: log.append("struck")):
            for name in ("one", "two", "three"):
                log.append(f"{name} begins")
                log.append(f"{name} ends")
                await trio.lowlevel.checkpoint()

    run(trial, scenario)

    assert log == [
        *("one begins", "one ends", "struck"),
        *("two begins", "two ends"),
        *("three begins", "three ends"),
    ]


def test_a_blow_that_fails_fails_the_scenario() -> None:
    trial = Trial(checkpoint=1)
    log: list[str] = []

    def misfire() -> None:
        raise KeyError("no such player")

    async def scenario() -> None:
        with trial.armed(misfire):
            await _two_checkpoints()
            log.append("went on")

    with pytest.raises(KeyError, match="no such player"):
        run(trial, scenario)

    assert log == ["went on"]


def test_one_target_at_a_time() -> None:
    trial = Trial(checkpoint=1)

    async def scenario() -> None:
        with trial.target():
            with pytest.raises(RuntimeError, match="already"), trial.target():
                pass
            await _two_checkpoints()

    run(trial, scenario)

    assert trial.struck


# -- faults ----------------------------------------------------------------------------------------


def test_the_io_of_the_number_fails_and_no_other() -> None:
    trial = Trial(io=2, error=FAULT)
    went_well: list[bool] = []

    async def scenario() -> None:
        with trial.armed(lambda: None):
            for _ in range(3):
                try:
                    trial.io()
                except OSError as error:
                    went_well.append(error is not FAULT)
                else:
                    went_well.append(True)
            await trio.lowlevel.checkpoint()

    run(trial, scenario)

    assert (went_well, trial.struck) == ([True, False, True], True)


def test_an_io_outside_of_the_target_is_not_counted() -> None:
    trial = Trial(io=1, error=FAULT)

    async def scenario() -> None:
        trial.io()
        with trial.armed(lambda: None):
            await trio.lowlevel.checkpoint()
        trial.io()

    run(trial, scenario)

    assert not trial.struck


def test_where_an_io_failed_is_told_with_the_calls_that_led_to_it() -> None:
    trial = Trial(io=1, error=FAULT)

    def write() -> None:
        trial.io()

    async def scenario() -> None:
        trio.lowlevel.current_task().name = "the writer"
        with trial.armed(lambda: None), pytest.raises(OSError, match="no route to host"):
            write()
        await trio.lowlevel.checkpoint()

    run(trial, scenario)

    told, *calls = trial.where.splitlines()
    functions = [line.rpartition(" in ")[2] for line in calls if line.startswith("  File")]
    assert told.startswith("task the writer was about to do I/O, and got OSError(113, ")
    assert functions == ["main", "scenario", "write"]
