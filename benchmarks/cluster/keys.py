"""What the broker keeps, looked at from beside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import RedisError

from trioproxy.cluster.keys import epoch_of

LOOK_SECONDS = 2.0
"""The longest that one look may take."""

EPOCH = epoch_of(0)

Ask = Callable[..., Awaitable[Any]]


class Keys:
    """Looks at the keys again and again, and notes what is wrong in ``violations``."""

    def __init__(self, port: int) -> None:
        self.violations: list[str] = []
        self.looks = 0
        self._port = port
        self._epoch: bytes | None = None
        self._fences: dict[bytes, int] = {}

    async def look(self) -> dict[bytes, float] | None:
        """How long each key has, in seconds; None where the broker does not answer."""
        left: dict[bytes, float] | None = None
        try:
            with trio.move_on_after(LOOK_SECONDS):
                async with self._connected() as ask:
                    left = await self._look(ask)
        except* (RedisError, OSError):
            left = None
        return left

    async def _look(self, ask: Ask) -> dict[bytes, float]:
        epoch = await ask("GET", EPOCH)
        if epoch != self._epoch:  # its memory is new
            self._epoch = epoch
            self._fences.clear()
        left: dict[bytes, float] = {}
        for name in await ask("KEYS", "tp:*"):
            milliseconds = await ask("PTTL", name)
            if milliseconds == -1:
                self.violations.append(f"{name.decode()} has no time to live")
            elif milliseconds >= 0:
                left[name] = milliseconds / 1000
                if name.endswith(b":l"):
                    await self._look_at_log(ask, name)
        self.looks += 1
        return left

    async def _look_at_log(self, ask: Ask, name: bytes) -> None:
        entries = await ask("XREVRANGE", name, "+", "-", "COUNT", 1)
        if not entries:
            return
        fence = int(entries[0][0].partition(b"-")[0])
        if fence < self._fences.get(name, 0):
            self.violations.append(
                f"{name.decode()}: an entry of {fence} after {self._fences[name]}"
            )
        self._fences[name] = fence
        held = await ask("HGET", name[:-1] + b"m", "fence")
        if held is not None and int(held) < fence:
            self.violations.append(f"{name.decode()}: an entry of {fence}, and {held} is held")

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Ask]:
        async with trio.open_nursery() as nursery:
            connection = TCPConnection(TCPLocation("127.0.0.1", self._port))
            await nursery.start(connection.run)

            async def ask(name: str, *arguments: str | bytes | int) -> Any:
                return await connection.create_request(name.encode(), *arguments)

            yield ask
            nursery.cancel_scope.cancel(reason="it was looked at")
