"""How many calls an upstream gets at a time, and who waits for one to end."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio

from trioproxy.upstream.errors import UpstreamBusy


class Places:
    """So many calls run at a time, and ``max_waiting`` more wait: who came first goes first.
    ``taken`` counts both. The bounds may be changed; nobody loses a place for it."""

    def __init__(self, max_calls: float = math.inf, max_waiting: float = math.inf) -> None:
        self.taken = 0
        self.max_waiting = max_waiting
        # Its waiters are served in turn, and can be cancelled.
        self._limiter = trio.CapacityLimiter(max_calls)

    @property
    def max_calls(self) -> float:
        return self._limiter.total_tokens

    @max_calls.setter
    def max_calls(self, number: float) -> None:
        self._limiter.total_tokens = number

    @asynccontextmanager
    async def place(self, patience: float) -> AsyncGenerator[None]:
        """One of them, for the length of the block. It is waited for so many seconds at most.

        Raises :class:`~trioproxy.upstream.UpstreamBusy` where too many wait, or none was free in
        time. If cancelled, none is taken.
        """
        if self.taken >= self.max_calls + self.max_waiting:
            raise UpstreamBusy(f"{self.taken} calls run or wait already")
        self.taken += 1
        me = object()
        try:
            await self._acquire(me, patience)
            try:
                yield
            finally:
                self._limiter.release_on_behalf_of(me)
        finally:
            self.taken -= 1

    async def _acquire(self, me: object, patience: float) -> None:
        with suppress(trio.WouldBlock):
            self._limiter.acquire_on_behalf_of_nowait(me)
            return
        with trio.move_on_after(patience) as waiting:
            await self._limiter.acquire_on_behalf_of(me)
        if waiting.cancelled_caught:
            raise UpstreamBusy(f"no call has ended for {patience:g} s")
