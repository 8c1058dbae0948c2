"""Heartbeats: whoever has waited for long enough in vain is woken to send one.

A deadline for each wait would be a seventh of what a token costs, and nearly none is ever reached.
So one task keeps the time for all.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NoReturn

import trio

from trioproxy.fanout import Subscriber


class Metronome:
    """Nudges each subscriber that has waited for ``interval`` seconds. All who wait have the same
    interval, so who came first is due first."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._due: dict[Subscriber, float] = {}
        self._first_came = trio.lowlevel.ParkingLot()

    def expect(self, subscriber: Subscriber) -> None:
        """It waits from now on."""
        if self._interval == math.inf:
            return
        if not self._due:
            self._first_came.unpark()
        self._due[subscriber] = trio.current_time() + self._interval

    def forget(self, subscriber: Subscriber) -> None:
        """It waits no more, or was never expected."""
        self._due.pop(subscriber, None)

    async def run(self) -> NoReturn:
        """Keep the time until cancelled."""
        while True:
            if not self._due:
                await self._first_came.park()
            await trio.sleep_until(next(iter(self._due.values()), -math.inf))
            now = trio.current_time()
            while (first := next(iter(self._due), None)) and self._due[first] <= now:
                del self._due[first]
                first.nudge()


@asynccontextmanager
async def open_metronome(interval: float) -> AsyncGenerator[Metronome]:
    """A metronome that goes for the length of the block."""
    async with trio.open_nursery() as nursery:
        metronome = Metronome(interval)
        nursery.start_soon(metronome.run, name="metronome")
        yield metronome
        nursery.cancel_scope.cancel(reason="nobody waits any more")
