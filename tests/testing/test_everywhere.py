"""The search for the point at which a scenario breaks: which points it tries, and how."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio

from trioproxy.testing import (
    Trial,
    Violation,
    cancel_at_every_checkpoint,
    fail_at_every_io,
)


async def _checkpoints(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


# -- which points there are ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_checkpoint_of_the_target_is_a_point(count: int, seed: int) -> None:
    async def scenario(trial: Trial) -> None:
        with trial.target():
            await _checkpoints(count)

    assert cancel_at_every_checkpoint(scenario, seed=seed) == count


def test_the_steps_of_every_task_are_points() -> None:
    async def scenario(trial: Trial) -> None:
        with trial.target():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_checkpoints, 2)
                nursery.start_soon(_checkpoints, 3)

    first_steps, last_step = 2, 1  # of the children, and of the parent that waited for them
    assert cancel_at_every_checkpoint(scenario) == first_steps + 2 + 3 + last_step


def test_a_moment_at_which_every_task_waits_is_a_point() -> None:
    async def scenario(trial: Trial) -> None:
        with trial.target():
            await trio.sleep(1)  # a point while it lasts, and a step after it
            await trio.sleep(1)

    assert cancel_at_every_checkpoint(scenario) == 4


def test_what_is_before_and_after_the_target_is_left_in_peace() -> None:
    async def scenario(trial: Trial) -> None:
        await _checkpoints(3)
        with trial.target():
            await _checkpoints(1)
        await _checkpoints(3)

    assert cancel_at_every_checkpoint(scenario) == 1


def test_each_run_is_cancelled_one_step_later_and_the_last_is_not() -> None:
    runs: list[tuple[int, bool]] = []

    async def scenario(trial: Trial) -> None:
        with trial.target() as scope:
            runs.append((0, False))
            for number in range(1, 4):
                await trio.lowlevel.checkpoint()
                runs[-1] = (number, False)
        runs[-1] = (runs[-1][0], scope.cancelled_caught)

    cancel_at_every_checkpoint(scenario)

    assert runs == [(0, True), (1, True), (2, True), (3, False)]


def test_a_task_is_cancelled_while_it_sleeps() -> None:
    slept: list[float] = []

    async def scenario(trial: Trial) -> None:
        began = trio.current_time()
        with trial.target():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 2)
                await trio.sleep(1)
                await trio.sleep(2)
        slept.append(trio.current_time() - began)

    cancel_at_every_checkpoint(scenario)

    assert sorted(set(slept)) == [0, 1, 2, 3]


def test_the_invariant_is_asked_after_every_run() -> None:
    asked: list[bool] = []

    async def scenario(trial: Trial) -> Trial:
        with trial.target():
            await _checkpoints(2)
        return trial

    cancel_at_every_checkpoint(scenario, lambda trial: asked.append(trial.struck))

    assert asked == [True, True, False]


def test_time_is_virtual() -> None:
    async def scenario(trial: Trial) -> float:
        began = trio.current_time()
        with trial.target():
            await trio.sleep(3000)
        return trio.current_time() - began

    seconds: list[float] = []
    cancel_at_every_checkpoint(scenario, seconds.append)

    assert seconds == [0, 3000, 3000]


@pytest.mark.parametrize("search", [cancel_at_every_checkpoint, fail_at_every_io])
def test_a_scenario_without_a_point_is_an_error(search: Callable[..., int]) -> None:
    async def scenario(trial: Trial) -> None:
        await _checkpoints(3)
        trial.io()

    with pytest.raises(ValueError, match="nothing was tried"):
        search(scenario)


@pytest.mark.parametrize(("only", "tried"), [(1, 1), (3, 1), (4, 0)])
def test_only_one_point_is_tried_if_there_is_one(only: int, tried: int) -> None:
    runs = 0

    async def scenario(trial: Trial) -> None:
        nonlocal runs
        runs += 1
        with trial.target():
            await _checkpoints(3)

    assert (cancel_at_every_checkpoint(scenario, only=only), runs) == (tried, 1)


# -- seeds -----------------------------------------------------------------------------------------


async def take_turns(trial: Trial) -> str:
    turns: list[str] = []

    async def take(name: str) -> None:
        for _ in range(4):
            turns.append(name)
            await trio.lowlevel.checkpoint()

    with trial.target():
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(take, name)
    return "".join(turns)


def _turns_of_every_run(seed: int) -> list[str]:
    turns: list[str] = []
    cancel_at_every_checkpoint(take_turns, turns.append, seed=seed)
    return turns


def test_the_same_seed_goes_the_same_way() -> None:
    assert _turns_of_every_run(5) == _turns_of_every_run(5)


def test_every_run_of_a_search_goes_the_same_way_up_to_the_blow() -> None:
    *struck, untouched = _turns_of_every_run(0)

    # The step that was about to be made is made: a task is cancelled at its next checkpoint.
    common = [turns[: point - 1] for point, turns in enumerate(struck[:12], start=1)]
    assert common == [untouched[: point - 1] for point in range(1, 13)]


def test_other_seeds_go_other_ways() -> None:
    untouched = {_turns_of_every_run(seed)[-1] for seed in range(5)}

    assert len(untouched) > 1


# -- what is left ----------------------------------------------------------------------------------


def test_a_violation_leaves_trio_as_it_was() -> None:
    runner = trio._core._run
    runner._r.seed(12345)
    before = (runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING)

    async def broken(trial: Trial) -> None:
        with trial.target():
            await trio.lowlevel.checkpoint()
        assert not trial.struck

    with pytest.raises(Violation):
        cancel_at_every_checkpoint(broken)

    assert (runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING) == before
    runner._r.seed(random.randrange(2**32))


def test_a_search_lets_a_keyboard_interrupt_pass() -> None:
    async def scenario(trial: Trial) -> None:
        with trial.target():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancel_at_every_checkpoint(scenario)
