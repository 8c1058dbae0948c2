"""Waiting for a condition of a socket, as trio waits for one of the kernel's."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Waiting:
    """One task at a time waits until ``condition`` holds, or until it is closed."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition
        self._lot = trio.lowlevel.ParkingLot()
        self._is_taken = False
        self._is_closed = False

    async def wait(self) -> None:
        """A checkpoint, and as many more as it takes. If cancelled, nothing has changed.

        Raises :exc:`trio.ClosedResourceError` where it is closed, before or meanwhile, and, at
        once, :exc:`trio.BusyResourceError` where another task waits already.
        """
        if self._is_taken:
            raise trio.BusyResourceError("another task waits for this socket already")
        self._is_taken = True
        try:
            await trio.lowlevel.checkpoint()
            while not (self._is_closed or self._condition()):
                await self._lot.park()
        finally:
            self._is_taken = False
        if self._is_closed:
            raise trio.ClosedResourceError("the socket was closed")

    def wake(self) -> None:
        """Let who waits look again."""
        self._lot.unpark_all()

    def close(self) -> None:
        """Send away who waits, and who will."""
        self._is_closed = True
        self._lot.unpark_all()
