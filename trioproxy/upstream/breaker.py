"""When an upstream that fails is left alone, and when it is tried again."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import trio

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Closed while calls succeed. After ``failures`` in a row it is open for ``seconds``: no call
    is made. Then it is half-open: one call is, and what becomes of it closes or opens it again."""

    def __init__(self, failures: float, seconds: float) -> None:
        self._limit = failures
        self._seconds = seconds
        self._failures = 0
        self._open_until = -math.inf
        self._is_tried = False

    @property
    def state(self) -> State:
        if self._failures < self._limit:
            return "closed"
        return "open" if trio.current_time() < self._open_until else "half-open"

    @property
    def allows(self) -> bool:
        """Whether a call may be made now."""
        state = self.state
        return state == "closed" or (state == "half-open" and not self._is_tried)

    @property
    def remaining(self) -> float:
        """Seconds until a call may be made, as far as they are known; 0 if one may."""
        return max(0.0, self._open_until - trio.current_time()) if self.state == "open" else 0.0

    @contextmanager
    def trial(self) -> Generator[None]:
        """For the length of the block a call is made whose success or failure will be told. One of
        which neither is told, as its client has left, decides nothing."""
        is_probe = self.state == "half-open"
        self._is_tried |= is_probe
        try:
            yield
        finally:
            if is_probe:
                self._is_tried = False

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures = 0

    def failed(self) -> None:
        """A call was not, and it was the upstream's fault."""
        self._failures += 1
        if self._failures >= self._limit:
            self._open_until = trio.current_time() + self._seconds
