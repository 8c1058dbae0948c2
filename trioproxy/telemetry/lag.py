"""How late the event loop is."""

from __future__ import annotations

from typing import NoReturn

import trio

from trioproxy.telemetry.histogram import Histogram

PERIOD = 0.1
"""Seconds between two looks."""


async def measure_lag(histogram: Histogram) -> NoReturn:
    """Sleep, and observe how much too long it was, until cancelled: what any task waits for that is
    ready to go on."""
    while True:
        due = trio.current_time() + PERIOD
        await trio.sleep_until(due)
        histogram.observe(trio.current_time() - due)
