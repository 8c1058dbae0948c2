"""How late the event loop is."""

from __future__ import annotations

import math
from collections import deque
from typing import NoReturn

import trio

from trioproxy.telemetry.histogram import Histogram

PERIOD = 0.1
"""Seconds between two looks."""

RECENT_SECONDS = 1.0


class LoopLag:
    """How much later than it wanted a task wakes that wakes ten times a second: what any task waits
    for that is ready to go on. All that was seen is in ``histogram``."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._latest: deque[tuple[float, float]] = deque(maxlen=round(RECENT_SECONDS / PERIOD))
        self._due = math.inf

    @property
    def recent(self) -> float:
        """The worst of the last second, in seconds; also what has not been seen to its end yet.
        0 where nobody measures."""
        now = trio.current_time()
        latest = [seconds for at, seconds in self._latest if now - at <= RECENT_SECONDS]
        return max(0.0, now - self._due, *latest)

    def observe(self, seconds: float) -> None:
        """Take note that it was so late just now."""
        self.histogram.observe(seconds)
        self._latest.append((trio.current_time(), seconds))

    async def measure(self) -> NoReturn:
        """Sleep, and observe how much too long it was, until cancelled."""
        try:
            while True:
                self._due = trio.current_time() + PERIOD
                await trio.sleep_until(self._due)
                self.observe(trio.current_time() - self._due)
        finally:
            self._due = math.inf
