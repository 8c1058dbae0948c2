"""When tokens are due."""

import math
import sys


class Pace:
    """The schedule of a stream: token `i` is due at `first + i / rate`.

    It is absolute, so a stream that is late catches up and none drifts. Times are in seconds, on
    one clock; `rate` is in tokens per second, and 0 makes every token due at `first`.
    """

    def __init__(self, first: float, rate: float) -> None:
        self._first = first
        self._rate = rate

    def due_at(self, token: int) -> float:
        """Return the time at which this token, counted from 0, is due."""
        return self._first + token / self._rate if self._rate else self._first

    def due_by(self, now: float) -> int:
        """Return how many tokens are due at `now`, `sys.maxsize` for all."""
        if now < self._first:
            return 0
        return math.floor((now - self._first) * self._rate) + 1 if self._rate else sys.maxsize
