"""The call that a violation prints is the call that repeats it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest
import trio

from trioproxy.testing import (
    Trial,
    Violation,
    cancel_at_every_checkpoint,
    fail_at_every_io,
)


async def take_turns(trial: Trial) -> list[str]:
    """What is held at the end: of two who hold something for a moment each."""
    held: list[str] = []

    async def hold(name: str) -> None:
        held.append(name)
        await trio.lowlevel.checkpoint()
        held.remove(name)

    with trial.target():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, "one")
            nursery.start_soon(hold, "other")
    return held


async def hold_late(after: int, trial: Trial, *, during: int = 1) -> list[str]:
    held: list[str] = []
    with trial.target():
        for _ in range(after):
            await trio.lowlevel.checkpoint()
        held.append("something")
        for _ in range(during):
            await trio.lowlevel.checkpoint()
        held.clear()
    return held


def nothing_is_held(held: list[str]) -> None:
    assert held == []


async def hang(trial: Trial) -> None:
    with trial.target():
        await trio.lowlevel.checkpoint()
    if trial.struck:
        await trio.sleep_forever()


async def lose_an_error(trial: Trial) -> None:
    with trial.armed(lambda: None):
        await trio.lowlevel.checkpoint()
        trial.io()


def host_unreachable() -> OSError:
    return OSError(errno.EHOSTUNREACH, "no route to host")


@pytest.mark.parametrize(
    ("search", "call"),
    [
        (
            lambda: cancel_at_every_checkpoint(take_turns, nothing_is_held),
            "cancel_at_every_checkpoint(take_turns, nothing_is_held, only=1)",
        ),
        (
            lambda: cancel_at_every_checkpoint(hang, seed=7, virtual_seconds=9.5),
            "cancel_at_every_checkpoint(hang, seed=7, only=1, virtual_seconds=9.5)",
        ),
        (
            lambda: cancel_at_every_checkpoint(partial(hold_late, 4), nothing_is_held),
            "cancel_at_every_checkpoint(partial(hold_late, 4), nothing_is_held, only=5)",
        ),
        (
            lambda: cancel_at_every_checkpoint(partial(hold_late, 2, during=3), nothing_is_held),
            "cancel_at_every_checkpoint(partial(hold_late, 2, during=3), nothing_is_held, only=3)",
        ),
        (
            lambda: fail_at_every_io(lose_an_error),
            "fail_at_every_io(lose_an_error, only=1)",
        ),
        (
            lambda: fail_at_every_io(lose_an_error, error=host_unreachable),
            "fail_at_every_io(lose_an_error, error=host_unreachable, only=1)",
        ),
    ],
    ids=["plain", "settings", "partial", "partial with a name", "fault", "fault of one's own"],
)
def test_the_call_that_is_printed_repeats_the_violation(
    search: Callable[[], object], call: str
) -> None:
    with pytest.raises(Violation) as first:
        search()
    printed = _call_printed_by(first.value)

    with pytest.raises(Violation) as second:
        eval(printed)

    assert printed == call
    assert str(second.value) == str(first.value)


def _call_printed_by(violation: Violation) -> str:
    line = str(violation).splitlines()[-1]
    assert line.startswith("to repeat it: ")
    return line.removeprefix("to repeat it: ")


def test_a_scenario_of_a_test_is_printed_by_the_name_that_it_has_there() -> None:
    async def broken(trial: Trial) -> None:
        with trial.target():
            await trio.lowlevel.checkpoint()
        assert not trial.struck

    with pytest.raises(Violation) as raised:
        cancel_at_every_checkpoint(broken)

    assert _call_printed_by(raised.value) == "cancel_at_every_checkpoint(broken, only=1)"
