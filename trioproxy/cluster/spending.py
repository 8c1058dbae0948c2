"""How often, counted by all nodes together: what is asked of a broker, and what its figures say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

WINDOW_SECONDS = 60.0

ROUNDING = 1e-9
"""Of a token: who comes back when told to must not be early by the last bit of a float."""

TICK = 0.001
"""Seconds that a broker tells apart: who comes back when told to must not be early by one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often one may: ``per_minute`` in any minute; or, where there is a ``burst``, so many at
    once and ``per_minute`` more as a minute goes by."""

    per_minute: float
    burst: int | None = None

    @property
    def kind(self) -> str:
        """How it is counted. Another kind is another count."""
        return "window" if self.burst is None else "bucket"


class Spent(NamedTuple):
    """Whether one ``is_let_in``; how many of ``limit`` remain, and in how many seconds all of them
    will be there again if nothing more is taken; in how many there is room for one more. ``mark``
    tells it from others, for who gives it back."""

    is_let_in: bool
    limit: int
    remaining: int
    reset: float
    retry_after: float
    mark: str = ""


def of_bucket(pace: Pace, is_let_in: bool, taken: float) -> Spent:
    """Of a bucket from which so much is ``taken`` and has not flowed back."""
    assert pace.burst is not None
    per_second = pace.per_minute / 60
    remaining = max(0, math.floor(pace.burst - taken + ROUNDING))
    missing = max(0.0, taken + 1 - pace.burst)
    wait = missing / per_second + TICK if missing > ROUNDING else 0.0
    return Spent(is_let_in, pace.burst, remaining, taken / per_second, wait)


def of_window(
    pace: Pace, is_let_in: bool, number: int, reset: float, wait: float, mark: str
) -> Spent:
    """Of a window in which so many are, the last one for ``reset`` seconds still, and in which room
    is in ``wait`` seconds."""
    most = int(pace.per_minute)
    return Spent(is_let_in, most, max(0, most - number), reset, wait, mark)
