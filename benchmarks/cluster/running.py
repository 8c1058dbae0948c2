"""One run of Trio in a program that waits for it."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

R = TypeVar("R")


def run(main: Callable[[], Awaitable[R]]) -> R:
    """Run it, and return what it returns.

    SIGTERM interrupts it as Ctrl-C does. Of a group of errors the first is raised: an interruption,
    or what says that something does not answer (:exc:`RuntimeError`, :exc:`OSError`).
    """
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        for kind in (KeyboardInterrupt, RuntimeError, OSError):
            if (found := group.subgroup(kind)) is not None:
                raise _first(found) from group
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
