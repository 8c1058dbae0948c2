"""Scenarios that break in known ways: the search finds each, and tells how."""

from __future__ import annotations

import socket as stdlib_socket
from functools import partial

import pytest
import trio

from trioproxy.testing import (
    Leaked,
    Trial,
    Violation,
    cancel_at_every_checkpoint,
    watchdog,
)


class Door:
    """Something to be left as it was found."""

    def __init__(self) -> None:
        self.is_locked = False
        self.log: list[str] = []


def is_unlocked(door: Door) -> None:
    assert not door.is_locked


async def unlock_in_a_finally_that_awaits(trial: Trial) -> Door:
    door = Door()

    async def pass_through() -> None:
        door.is_locked = True
        try:
            await trio.sleep(1)
        finally:
            await trio.sleep(1)  # noqa: ASYNC102 (that is what breaks)
            door.is_locked = False

    with trial.target():
        await trio.lowlevel.checkpoint()
        await pass_through()
    return door


def test_a_finally_that_awaits_is_found_to_lose_its_lock() -> None:
    with pytest.raises(Violation) as raised:
        cancel_at_every_checkpoint(unlock_in_a_finally_that_awaits, is_unlocked)

    assert isinstance(raised.value.__cause__, AssertionError)
    assert "violated at checkpoint 2, every task waited here:" in str(raised.value)


async def swallow_the_cancellation(trial: Trial) -> Door:
    door = Door()
    with trial.target():
        await trio.lowlevel.checkpoint()
        try:
            await trio.sleep(1)
        except trio.Cancelled:  # noqa: ASYNC103 (that is what breaks)
            door.log.append("swallowed")
        door.log.append("slept")
    return door


def has_slept_or_not(door: Door) -> None:
    assert door.log in ([], ["slept"])


def test_a_swallowed_cancellation_is_found() -> None:
    with pytest.raises(Violation, match="violated at checkpoint 2, every task waited here:"):
        cancel_at_every_checkpoint(swallow_the_cancellation, has_slept_or_not)


async def leave_a_task_behind(trial: Trial) -> None:
    with trial.target():
        stop = trio.Event()
        trio.lowlevel.spawn_system_task(stop.wait, name="left behind")
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        stop.set()


def test_a_task_that_is_left_behind_is_found() -> None:
    with pytest.raises(Violation, match="violated at checkpoint 1, ") as raised:
        cancel_at_every_checkpoint(leave_a_task_behind)

    leaked = raised.value.__cause__
    assert isinstance(leaked, Leaked)
    assert {(alive.kind, alive.name) for alive in leaked.alive} == {("task", "left behind")}


async def leave_a_socket_open(sockets: list[stdlib_socket.socket], trial: Trial) -> None:
    sockets.append(stdlib_socket.socket())
    with trial.target():
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        sockets.pop().close()


def test_a_socket_that_is_left_open_is_found() -> None:
    sockets: list[stdlib_socket.socket] = []
    with pytest.raises(Violation, match="violated at checkpoint 1, ") as raised:
        cancel_at_every_checkpoint(partial(leave_a_socket_open, sockets))

    sockets.pop().close()
    leaked = raised.value.__cause__
    assert isinstance(leaked, Leaked)
    assert [alive.kind for alive in leaked.alive] == ["descriptor"]


async def wait_in_a_shield(trial: Trial) -> None:
    answer = trio.Event()

    async def say_goodbye() -> None:
        with trio.CancelScope(shield=True):
            await answer.wait()

    with trial.target():
        try:
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            answer.set()
        finally:
            await say_goodbye()


def test_a_shield_without_a_deadline_is_found_and_named() -> None:
    with pytest.raises(Violation, match="violated at checkpoint 1, ") as raised:
        cancel_at_every_checkpoint(wait_in_a_shield)

    assert "a shield without a deadline kept tasks from being cancelled here" in str(raised.value)
    assert "in say_goodbye\n    await answer.wait()" in str(raised.value)


async def wait_for_what_the_cancelled_would_have_sent(trial: Trial) -> None:
    sent = trio.Event()
    with trial.target():
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        sent.set()
    await sent.wait()


def test_a_hang_is_found_and_named() -> None:
    with pytest.raises(Violation, match="violated at checkpoint 1, ") as raised:
        cancel_at_every_checkpoint(
            wait_for_what_the_cancelled_would_have_sent, virtual_seconds=100.0
        )

    assert "after 100.0 virtual seconds the tasks stood here" in str(raised.value)
    assert "in wait_for_what_the_cancelled_would_have_sent" in str(raised.value)
    assert "await sent.wait()" in str(raised.value)


def test_a_run_that_ends_too_late_is_found_even_if_nothing_fails() -> None:
    async def scenario(trial: Trial) -> None:
        with trial.target():
            await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):
            await trio.sleep(101)

    with pytest.raises(Violation, match=r"after 100\.0 virtual seconds") as raised:
        cancel_at_every_checkpoint(scenario, virtual_seconds=100.0)

    assert str(raised.value.__cause__) == "the run had to be ended"


async def poll_for_what_the_cancelled_would_have_done(trial: Trial) -> None:
    is_done = False
    with trial.target():
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        is_done = True
    while not is_done:  # noqa: ASYNC110 (that is what breaks)
        await trio.lowlevel.checkpoint()


def test_a_busy_wait_that_never_ends_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "MAX_STEPS", 1_000)

    with pytest.raises(Violation, match="violated at checkpoint 1, ") as raised:
        cancel_at_every_checkpoint(poll_for_what_the_cancelled_would_have_done)

    assert "no time passed in 1,000 steps, and the tasks stood here" in str(raised.value)
    assert "in poll_for_what_the_cancelled_would_have_done" in str(raised.value)


def test_a_scenario_that_fails_by_itself_is_told_so() -> None:
    async def scenario(trial: Trial) -> None:
        with trial.target():
            await trio.lowlevel.checkpoint()
        if not trial.struck:
            raise KeyError("untouched")

    with pytest.raises(Violation, match=r"^violated with no blow at all\n") as raised:
        cancel_at_every_checkpoint(scenario)

    assert isinstance(raised.value.__cause__, KeyError)


def test_a_violation_shows_where_the_struck_task_was_about_to_go_on() -> None:
    async def deep_down() -> None:
        await trio.lowlevel.checkpoint()  # here

    async def dive(trial: Trial) -> None:
        with trial.target():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(deep_down, name="the diver")
        assert not trial.struck

    with pytest.raises(Violation) as raised:
        cancel_at_every_checkpoint(dive, only=2)

    assert "at checkpoint 2, task the diver was about to go on here:\n" in str(raised.value)
    assert "in deep_down\n    await trio.lowlevel.checkpoint()  # here\n" in str(raised.value)


def test_the_main_task_has_the_name_of_the_scenario() -> None:
    with pytest.raises(Violation, match="\ntask swallow_the_cancellation:\n"):
        cancel_at_every_checkpoint(swallow_the_cancellation, has_slept_or_not)
