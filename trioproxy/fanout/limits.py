"""The bounds of a hub, and what of it is whose."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from trioproxy.fanout.errors import TooManyGenerations, TooManySubscribers


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a hub. Sizes in bytes, times in seconds."""

    max_transcript_bytes: int = 16 * 1024 * 1024
    max_hub_bytes: int = 512 * 1024 * 1024
    max_subscribers: int = 10_000
    """A generation's subscribers."""
    max_generations: int = 1_000
    """A tenant's running generations."""
    max_tenant_subscribers: float = math.inf
    """The subscribers of all of a tenant's generations."""
    max_total_generations: float = math.inf
    """All running generations."""
    max_seconds: float = math.inf
    """A generation's life."""
    retention: float = 600.0
    """How long an ended generation can still be read."""
    max_lag: int = 1024 * 1024
    """What a subscriber may fall behind, where its ``on_lag`` minds."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one tenant may have of a hub at a time: running generations, and subscribers of all of
    its generations."""

    max_generations: float
    max_subscribers: float


ShareOf = Callable[[str], Share]
"""The share of a tenant. It is asked each time, and what it says may change."""


class Shares:
    """What the tenants of a hub have of it now: running ``generations``, and ``subscribers``. Who
    has nothing is not remembered. ``share_of`` says what each may have."""

    def __init__(self, share_of: ShareOf) -> None:
        self.share_of = share_of
        self.generations: Counter[str] = Counter()
        self.subscribers: Counter[str] = Counter()

    def check_generation(self, tenant: str) -> None:
        """Raise :class:`TooManyGenerations` where the tenant may run no other."""
        most = self.share_of(tenant).max_generations
        if self.generations[tenant] >= most:
            raise TooManyGenerations(f"{most:g} generations are running already")

    def check_subscriber(self, tenant: str) -> None:
        """Raise :class:`TooManySubscribers` where the tenant's generations may have no other."""
        most = self.share_of(tenant).max_subscribers
        if self.subscribers[tenant] >= most:
            raise TooManySubscribers(f"all generations together have {most:g} subscribers already")

    def add_generation(self, tenant: str) -> None:
        self.generations[tenant] += 1

    def add_subscriber(self, tenant: str) -> None:
        self.subscribers[tenant] += 1

    def remove_generation(self, tenant: str) -> None:
        _remove_one(self.generations, tenant)

    def remove_subscriber(self, tenant: str) -> None:
        _remove_one(self.subscribers, tenant)


def _remove_one(counter: Counter[str], tenant: str) -> None:
    counter[tenant] -= 1
    if not counter[tenant]:
        del counter[tenant]
