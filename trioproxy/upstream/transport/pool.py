"""Who may have a connection to an origin, and which connections are kept for the next.

A :class:`Lease` is one call's right to one connection. It is over by :meth:`Lease.close` or
:meth:`Lease.keep`, both synchronous, so nothing that is cancelled can fail to give it back.

No more than ``max_connections`` are open, those kept included: a call that may go on takes a kept
one where there is one, so a new one is only opened where fewer than that many are.
"""

from __future__ import annotations

import math
from collections import deque

import trio

from trioproxy.upstream.transport.connection import Connection

IDLE_SECONDS = 4.0
"""For so long is a connection kept by default. Many servers close theirs after five seconds
(uvicorn, Node.js, llama.cpp), and a request that crosses such a close on its way is lost: it must
be us who give up first, by more than a slow second."""

MAX_IDLE = 100
"""So many are kept of one origin; the oldest has to go."""


class Pool:
    """The connections to one origin. Only :meth:`lease` waits. What is put is kept for
    ``idle_seconds``."""

    def __init__(self, max_connections: float, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        # First in, first out, and its waiters can be cancelled: see trio.CapacityLimiter.
        self._places = trio.CapacityLimiter(max_connections)
        self._idle: deque[tuple[float, Connection]] = deque()  # by expiry, in trio's time

    async def lease(self) -> Lease:
        """Wait for a place; who came first has it first. If cancelled, none was taken."""
        lease = Lease(self)
        await self._places.acquire_on_behalf_of(lease)
        return lease

    def give_back(self, lease: Lease) -> None:
        """Let the next have its place."""
        self._places.release_on_behalf_of(lease)

    def put(self, connection: Connection) -> None:
        """Keep it for the next call."""
        if len(self._idle) == MAX_IDLE:
            self._idle.popleft()[1].close()
        self._idle.append((trio.current_time() + self._idle_seconds, connection))

    def take(self) -> Connection | None:
        """The connection that was kept last, if there is one: the others get the time to expire."""
        self.close_idle(until=trio.current_time())
        return self._idle.pop()[1] if self._idle else None

    def close_idle(self, *, until: float) -> None:
        """Close those that expire until then (trio's time)."""
        while self._idle and self._idle[0][0] <= until:
            self._idle.popleft()[1].close()

    @property
    def next_expiry(self) -> float:
        """When the first of those that are kept expires (trio's time); infinity where none is."""
        return self._idle[0][0] if self._idle else math.inf


class Lease:
    """A place in a pool, and the connection that it is for, once there is one. ``is_over`` when
    both were given back."""

    def __init__(self, pool: Pool) -> None:
        self.is_over = False
        self._pool = pool
        self._connection: Connection | None = None

    async def reuse(self) -> Connection | None:
        """A kept connection on which nothing happened since, if there is one.

        If cancelled, the lease is to be closed, as ever.
        """
        while (kept := self._pool.take()) is not None:
            self.hold(kept)
            if await kept.is_quiet():
                return kept
            kept.close()
        return None

    def hold(self, connection: Connection) -> None:
        """Be for this connection from now on."""
        self._connection = connection

    def close(self) -> None:
        """Close the connection, and give back the place. Idempotent."""
        if not self.is_over:
            if self._connection is not None:
                self._connection.close()
            self._give_back()

    def keep(self) -> None:
        """Give back the connection for the next call, and the place. Idempotent."""
        if not self.is_over:
            assert self._connection is not None
            self._pool.put(self._connection)
            self._give_back()

    def _give_back(self) -> None:
        self.is_over = True
        self._pool.give_back(self)
