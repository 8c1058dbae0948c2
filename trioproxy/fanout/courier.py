"""The task that writes for all generations that few read."""

from __future__ import annotations

from typing import Protocol

import trio

STOPS_AT_ONCE = 64
"""So many generations are written for before the other tasks get their turn."""


class Stop(Protocol):
    """Where the courier has something to deliver. Never raises: whatever goes wrong is its own
    affair."""

    def deliver(self) -> None: ...


class Courier:
    """Writes for one generation after the other, each as soon as it is told of news there.

    Most generations have one reader, and a task switch for each token of each would cost as much as
    the write. Nor does the reader of the upstream write by itself: writes that follow each other
    are cheaper than those that take turns with reads, for the kernel and the clients too, who are
    woken by the first and found awake by the next.
    """

    def __init__(self) -> None:
        self._due: dict[Stop, None] = {}
        self._called = trio.Event()

    def send(self, stop: Stop) -> None:
        """Have it delivered to in the next round. Synchronous; the same stop is made once."""
        if not self._due:
            self._called.set()
        self._due[stop] = None

    async def run(self) -> None:
        """Go round until cancelled; what is due then is not delivered any more."""
        while True:
            await self._called.wait()
            self._called = trio.Event()
            due, self._due = self._due, {}
            for count, stop in enumerate(due, start=1):
                stop.deliver()
                if count % STOPS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
