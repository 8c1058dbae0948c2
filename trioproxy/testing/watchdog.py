"""Runs that do not end: noticed, described, and ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from trio.lowlevel import Task

from trioproxy.testing.standing import tasks_of_run, where_tasks_stand

T = TypeVar("T")

MAX_STEPS = 100_000
"""So many steps may the tasks make without any time passing."""

IDLE_ROUNDS = 1_000
"""So many times in a row may the scheduler find nobody to run."""


class Watchdog(trio.abc.Instrument):
    """Ends a run that does not end by itself, in one of three ways. Its clock has to be a
    :class:`trio.testing.MockClock` that jumps.

    * Its tasks wait for what does not come. After ``seconds`` of virtual time they are cancelled.
    * Its tasks go on and on, so that no time passes. After :data:`MAX_STEPS` they are cancelled.
    * When they are cancelled, some wait within a shield that has no deadline. Then nothing can
      happen any more, and the shields are taken away.

    A task that swallows :exc:`trio.Cancelled` and goes on for ever cannot be ended.
    """

    def __init__(self, seconds: float) -> None:
        self.story = ""
        """How the run failed to end, and where its tasks stood; empty where it ended."""
        self._seconds = seconds
        self._scope: trio.CancelScope | None = None
        self._now = 0.0
        self._steps = 0
        self._idle_rounds = 0

    async def watch(self, main: Callable[[], Awaitable[T]]) -> T:
        """Await ``main()``, in a run that this is an instrument of.

        Raises :exc:`trio.TooSlowError` where it had to be ended.
        """
        with trio.fail_after(self._seconds) as self._scope:
            return await main()

    # -- what trio tells it ------------------------------------------------------------------------

    def before_task_step(self, task: Task) -> None:
        self._idle_rounds = 0
        self._steps += 1
        if self._steps == MAX_STEPS and self._scope is not None:
            self._tell(f"no time passed in {MAX_STEPS:,} steps, and the tasks stood here")
            self._scope.deadline = trio.current_time()

    def before_io_wait(self, timeout: float) -> None:
        now = trio.current_time()
        if now != self._now:
            self._now = now
            self._steps = 0
        self._idle_rounds += 1
        if self._scope is None:
            return
        if now >= self._scope.deadline and not self.story:
            self._tell(f"after {self._seconds:,} virtual seconds the tasks stood here")
        if self._idle_rounds == IDLE_ROUNDS:
            self._tell("a shield without a deadline kept tasks from being cancelled here")
            for task in tasks_of_run():
                _take_shields_from(task)

    def _tell(self, what: str) -> None:
        self.story = f"{what}:\n{where_tasks_stand()}"


def _take_shields_from(task: Task) -> None:
    status = task._cancel_status  # pyright: ignore
    while status is not None:  # pyright: ignore
        status._scope.shield = False  # pyright: ignore
        status = status.parent  # pyright: ignore
