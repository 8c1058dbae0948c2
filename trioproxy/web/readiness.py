"""Whether an engine is there to be called, asked seldom however often one wants to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

FRESH_SECONDS = 2.0
"""How long an answer holds."""


class Readiness:
    """The answer of ``ask``, at most so old. One asks at a time, and the others wait for what it is
    told; if it is cancelled, the next one asks."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._asking = trio.Lock()
        self._answer = False
        self._holds_until = -1.0

    async def __call__(self) -> bool:
        """Whether it is there. If cancelled, nothing has changed."""
        async with self._asking:
            if trio.current_time() >= self._holds_until:
                self._answer = await self._ask()
                self._holds_until = trio.current_time() + FRESH_SECONDS
        return self._answer
