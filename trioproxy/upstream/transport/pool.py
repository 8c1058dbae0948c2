"""Which connections to an origin are kept for the next call.

A :class:`Lease` is one call's right to one connection. It is over by :meth:`Lease.close` or
:meth:`Lease.keep`, both synchronous, so nothing that is cancelled can fail to give it back.
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
    """The connections to one origin. What is put is kept for ``idle_seconds``."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._idle: deque[tuple[float, Connection]] = deque()  # by expiry, in trio's time

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
    """A connection of a pool's, once there is one. ``is_over`` when it was given back."""

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
        """Close the connection. Idempotent."""
        if not self.is_over:
            self.is_over = True
            if self._connection is not None:
                self._connection.close()

    def keep(self) -> None:
        """Give back the connection for the next call. Idempotent."""
        if not self.is_over:
            self.is_over = True
            assert self._connection is not None
            self._pool.put(self._connection)
