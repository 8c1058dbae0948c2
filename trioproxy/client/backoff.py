"""When to try again, and when to give up."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from trioproxy.client.errors import AttemptFailed, ProxyUnreachable

T = TypeVar("T")

SHORTEST, LONGEST = 0.1, 5.0
"""Seconds: the longest first delay, and the longest of all that the server did not ask for."""


class Backoff:
    """Counts attempts without progress, and waits between them.

    A delay is drawn evenly between nothing and a bound that doubles each time ("full jitter"), so
    that readers whom one event has cut off do not come back as one.
    """

    def __init__(self, max_attempts: int) -> None:
        self.attempts = 0
        self._max_attempts = max_attempts
        self._delays = 0
        self._has_progressed = False

    def reset(self) -> None:
        """The attempt that is under way has brought something: begin from the start with the
        next."""
        self.attempts = self._delays = 0
        self._has_progressed = True

    def count(self) -> bool:
        """Note that an attempt has ended in failure, which counts unless it had brought something.
        Returns whether that was the last one."""
        if self._has_progressed:
            self._has_progressed = False
        else:
            self.attempts += 1
        return self.attempts >= self._max_attempts

    async def wait(self, error: AttemptFailed) -> None:
        """Wait before the next attempt; never for less than the server asked."""
        bound = min(LONGEST, SHORTEST * 2.0**self._delays)
        self._delays += 1
        await trio.sleep((error.retry_after or 0.0) + random.uniform(0, bound))


async def repeat(attempt: Callable[[], Awaitable[T]], backoff: Backoff) -> T:
    """Make an attempt until it succeeds. Raises :class:`ProxyUnreachable`, and whatever it raises
    but :class:`AttemptFailed`."""
    while True:
        try:
            return await attempt()
        except AttemptFailed as error:
            if backoff.count():
                raise ProxyUnreachable(
                    f"{backoff.attempts} attempts failed, the last because {error}"
                ) from error
            await backoff.wait(error)
