"""Doing something between two given steps of trio's scheduler, to try every place where it can
happen."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import trio


class AtStep(trio.abc.Instrument):
    """Calls ``act`` once, right before the ``step``-th task step (from 1) within its block.

    ``was_reached`` tells whether there were so many: a loop over ``step``, from 1 until one is not
    reached, has tried them all.
    """

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.was_reached = False
        self._steps_left = step
        self._act = act

    def disarm(self) -> None:
        """Count no further steps."""
        self._steps_left = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps_left -= 1
        if self._steps_left == 0:
            self.was_reached = True
            self._act()

    def __enter__(self) -> AtStep:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        trio.lowlevel.remove_instrument(self)
