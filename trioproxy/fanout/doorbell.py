"""How a task that waits is told that there is news."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Doorbell:
    """The memory channel of whoever waits. It holds one "there is news" at most, and never the news
    itself.

    Ringing is synchronous and cannot fail; a doorbell that rang already stays rung. A ring that
    comes too early or too late only makes its subscriber look once in vain.
    """

    __slots__ = ("_rings", "_waits")

    def __init__(self) -> None:
        self._rings, self._waits = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        try:
            self._rings.send_nowait(None)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it rang already, or its subscriber has left

    async def wait(self) -> None:
        """Wait for a ring. If cancelled, a ring is not lost."""
        await self._waits.receive()

    def close(self) -> None:
        self._waits.close()  # first: whoever waits is told that it was closed here, not elsewhere
        self._rings.close()


class CallingBell(Doorbell):
    """One that calls somebody, in the step that rings it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__()
        self._call = call

    def ring(self) -> None:
        self._call()
