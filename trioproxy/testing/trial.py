"""One run of a scenario, and the one blow that falls in it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from inspect import currentframe

import trio
from trio.lowlevel import Task

from trioproxy.testing.stack import Stack, innermost_calls, stack_of_waiting
from trioproxy.testing.standing import where_tasks_stand


class Trial(trio.abc.Instrument):
    """What a scenario is handed: it says where the blow may fall, and asks whether it fell.

    Points are counted only where the scenario has raised a target (:meth:`target`, :meth:`armed`),
    from 1 on and over all of its tasks: what it sets up before, and what it looks at after, is left
    in peace. It can raise several, one after the other; the blow falls once.

    Where tasks are to be struck, a point is any moment between two steps: before each step of each
    task, and whenever every task waits, before time passes. (A task that is about to make a step is
    not kept from it: it is cancelled at the checkpoint that it comes from or at its next.)
    """

    def __init__(self, *, checkpoint: int = 0, io: int = 0, error: OSError | None = None) -> None:
        self.struck = False
        """Whether the blow has fallen."""
        self._checkpoints_left = checkpoint
        self._ios_left = io
        self._error = error
        self._strike: Callable[[], object] | None = None
        self._misfire: Exception | None = None
        self._is_quiet = False
        self._calls: object = None
        self._what = "nowhere"

    @property
    def where(self) -> str:
        """What was about to happen when it fell, and in which calls. (Written out when it is asked
        for: few are, and that takes as long as a tenth of a run.)"""
        return f"{self._what}:\n{self._calls}" if self.struck else self._what

    @contextmanager
    def target(self) -> Generator[trio.CancelScope]:
        """A block to be cancelled. What is cancelled ends here, as in any scope."""
        with trio.CancelScope() as scope, self.armed(lambda: scope.cancel(reason="a trial")):
            yield scope

    @contextmanager
    def armed(self, strike: Callable[[], object]) -> Generator[None]:
        """A block in which the blow may fall. ``strike`` is the blow: it is called between two
        steps of the scheduler, and must be synchronous. (Where faults are tried it is not called;
        the fault is the blow.)

        What ``strike`` raises is raised at the end of the block. Raises :exc:`RuntimeError` within
        another such block.
        """
        if self._strike is not None:
            raise RuntimeError("a target has been raised already")
        self._strike = strike
        try:
            yield
        finally:
            self._strike = None
            if self._misfire is not None:
                raise self._misfire

    def io(self) -> None:
        """An input or output is about to happen: to be called before each (a
        :class:`~trioproxy.testing.network.VirtualNetwork` does, by ``on_io``). Raises the fault if
        this is the one."""
        if self._strike is None or self._ios_left == 0:
            return
        self._ios_left -= 1
        if self._ios_left == 0:
            assert self._error is not None
            task = trio.lowlevel.current_task()
            _, *calls = innermost_calls(currentframe(), task.coro.cr_frame)
            what = f"task {task.name} was about to do I/O, and got {self._error!r}, here"
            self._note(what, Stack(tuple(reversed(calls))))
            raise self._error

    # -- what trio tells it ------------------------------------------------------------------------

    def before_task_step(self, task: Task) -> None:
        self._is_quiet = False
        strike = self._strike_now()
        if strike is not None:
            self._note(f"task {task.name} was about to go on here", stack_of_waiting(task))
            self._call(strike)

    def before_io_wait(self, timeout: float) -> None:
        # It is called in every round of the scheduler, and more than once where time passes.
        if self._strike is None or self._is_quiet or _tasks_can_run():
            return
        self._is_quiet = True
        strike = self._strike_now()
        if strike is not None:
            self._note("every task waited here", where_tasks_stand())
            self._call(strike)

    def _strike_now(self) -> Callable[[], object] | None:
        """A point has come; the blow, if this is the one."""
        if self._strike is None or self._checkpoints_left == 0:
            return None
        self._checkpoints_left -= 1
        return self._strike if self._checkpoints_left == 0 else None

    def _call(self, strike: Callable[[], object]) -> None:
        try:
            strike()
        except Exception as error:  # of an instrument trio would only log it
            self._misfire = error

    def _note(self, what: str, calls: object) -> None:
        self.struck = True
        self._what = what
        self._calls = calls


def _tasks_can_run() -> bool:
    return trio.lowlevel.current_statistics().tasks_runnable > 0
