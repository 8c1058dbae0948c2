"""A trio run that goes the same way each time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import trio


@contextmanager
def deterministic(seed: int) -> Generator[None]:
    """Let trio's scheduler draw from ``seed``, in the runs that begin within the block.

    trio shuffles the tasks that can run, so that nobody relies on an order. It has no public way to
    say how; this sets what pytest-trio sets for Hypothesis: its random generator, and a flag by
    which tasks are put in the order of their making before they are shuffled.
    """
    runner = trio._core._run  # pyright: ignore
    state, flag = runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING  # pyright: ignore
    runner._r.seed(seed)  # pyright: ignore
    runner._ALLOW_DETERMINISTIC_SCHEDULING = True  # pyright: ignore
    try:
        yield
    finally:
        runner._r.setstate(state)  # pyright: ignore
        runner._ALLOW_DETERMINISTIC_SCHEDULING = flag  # pyright: ignore
