"""Sleeping for the price of a share: one timer that many streams wait on.

A stream sleeps once per token. `trio.sleep_until` builds a cancel scope, and raises and catches a
`Cancelled`, for each of these sleeps, and that is most of what a simulated token would cost. Here
one task sleeps for all: it wakes at most once per tick and unparks everyone whose time has come.
"""

import heapq
import math

import trio

_TICKS_PER_SECOND = 1000


class Ticker:
    """Wakes sleeping tasks, with a resolution of one millisecond. `run` must be running.

    A sleeper is woken at the first tick at or after its time: up to a millisecond late, never
    early.
    """

    def __init__(self) -> None:
        self._sleepers: dict[int, trio.lowlevel.ParkingLot] = {}
        self._ticks: list[int] = []  # a heap of the keys of `_sleepers`
        self._nap = trio.CancelScope()

    async def run(self) -> None:
        """Wake the sleepers until cancelled. If it is cancelled, those that sleep are not woken."""
        while True:
            deadline = self._ticks[0] / _TICKS_PER_SECOND if self._ticks else math.inf
            with trio.CancelScope(deadline=deadline) as self._nap:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._ticks and self._ticks[0] / _TICKS_PER_SECOND <= now:
                self._sleepers.pop(heapq.heappop(self._ticks)).unpark_all()

    async def sleep_until(self, time: float) -> None:
        """Sleep until the clock (`trio.current_time`, in seconds) shows `time`.

        Always a checkpoint. A time that has passed returns at once, an infinite one never comes. If
        it is cancelled, nothing has happened.
        """
        if time == math.inf:
            await trio.sleep_forever()
        if time <= trio.current_time():
            await trio.lowlevel.checkpoint()
            return
        tick = math.ceil(time * _TICKS_PER_SECOND)
        sleepers = self._sleepers.get(tick)
        if sleepers is None:
            sleepers = self._sleepers[tick] = trio.lowlevel.ParkingLot()
            heapq.heappush(self._ticks, tick)
            self._nap.deadline = min(self._nap.deadline, tick / _TICKS_PER_SECOND)
        await sleepers.park()
