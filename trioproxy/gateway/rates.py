"""How often: token buckets and sliding windows, on trio's clock.

What is counted is decided at once, and time is looked at whenever somebody asks, so that there is
no timer to own. A count is kept apart from the rate that it is held against: another rate asks the
same count another question.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from trioproxy.config import RateLimiter

WINDOW_SECONDS = 60.0

MAX_TENANTS = 10_000
"""So many are remembered; where no tenants are configured, anybody can be any number of them."""

ROUNDING = 1e-9
"""Of a token: who comes back when told to must not be early by the last bit of a float."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often one may: ``per_minute`` in any minute (``"sliding-window"``), or ``burst`` at once
    and ``per_minute`` more as a minute goes by (``"token-bucket"``)."""

    limiter: RateLimiter
    per_minute: float
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of ``limit``, and in how many seconds all of it will be there again if nothing
    more is taken."""

    limit: int
    remaining: int
    reset: float


class RateLimited(Exception):
    """Too often. In ``retry_after`` seconds there is room for one more."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many requests: there is room for one more in {retry_after:.3g} s")
        self.retry_after = retry_after


class TokenBucket:
    """What has been taken out of a bucket and has not yet flowed back."""

    def __init__(self) -> None:
        self._taken = 0.0
        self._at = trio.current_time()

    def take(self, rate: Rate) -> None:
        """Take one. Raises :class:`RateLimited`, with nothing taken."""
        missing = self._flow(rate) + 1 - rate.burst
        if missing > ROUNDING:
            raise RateLimited(missing * 60 / rate.per_minute)
        self._taken += 1

    def look(self, rate: Rate) -> Allowance:
        """What is left."""
        taken = self._flow(rate)
        remaining = max(0, math.floor(rate.burst - taken + ROUNDING))
        return Allowance(rate.burst, remaining, taken * 60 / rate.per_minute)

    def _flow(self, rate: Rate) -> float:
        now = trio.current_time()
        self._taken = max(0.0, self._taken - (now - self._at) * rate.per_minute / 60)
        self._at = now
        return self._taken


class SlidingWindow:
    """When what was taken in the last minute was taken."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def take(self, rate: Rate) -> None:
        """Take one. Raises :class:`RateLimited`, with nothing taken."""
        now = self._slide()
        excess = len(self._times) - int(rate.per_minute)
        if excess >= 0:
            raise RateLimited(self._times[excess] + WINDOW_SECONDS - now)
        self._times.append(now)

    def look(self, rate: Rate) -> Allowance:
        """What is left."""
        now, limit = self._slide(), int(rate.per_minute)
        reset = self._times[-1] + WINDOW_SECONDS - now if self._times else 0.0
        return Allowance(limit, max(0, limit - len(self._times)), reset)

    def _slide(self) -> float:
        now = trio.current_time()
        while self._times and self._times[0] + WINDOW_SECONDS <= now:
            self._times.popleft()
        return now


_COUNTS: dict[RateLimiter, type[TokenBucket | SlidingWindow]] = {
    "token-bucket": TokenBucket,
    "sliding-window": SlidingWindow,
}


class Rates:
    """How often tenants have asked. ``rate_of`` says how often each may, None where it may as it
    likes; it is asked each time, and what it says may change.

    Who has not been seen for so long that all is there again is forgotten.
    """

    def __init__(self, rate_of: Callable[[str], Rate | None]) -> None:
        self._rate_of = rate_of
        self._counts: OrderedDict[str, TokenBucket | SlidingWindow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def take(self, tenant: str) -> None:
        """Count one. Raises :class:`RateLimited`, with nothing counted."""
        rate = self._rate_of(tenant)
        if rate is not None:
            self._count_of(tenant, rate).take(rate)

    def look(self, tenant: str) -> Allowance | None:
        """What is left for a tenant; None where nothing is counted."""
        rate = self._rate_of(tenant)
        return None if rate is None else self._count_of(tenant, rate).look(rate)

    def _count_of(self, tenant: str, rate: Rate) -> TokenBucket | SlidingWindow:
        kind, count = _COUNTS[rate.limiter], self._counts.get(tenant)
        if not isinstance(count, kind):
            count = self._counts[tenant] = kind()
        self._counts.move_to_end(tenant)
        self._forget_before(tenant)
        return count

    def _forget_before(self, tenant: str) -> None:
        """Forget those who were seen longest ago, as long as that changes nothing for them, or
        there are too many."""
        while (oldest := next(iter(self._counts))) != tenant:
            rate = self._rate_of(oldest)
            is_full = rate is None or self._counts[oldest].look(rate).reset <= 0
            if not is_full and len(self._counts) <= MAX_TENANTS:
                return
            del self._counts[oldest]
