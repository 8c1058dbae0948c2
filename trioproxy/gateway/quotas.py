"""What each tenant may use: what the settings say for all, but for what its own table says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trioproxy.config import Settings, TenantEntry
from trioproxy.fanout import Share
from trioproxy.gateway.rates import Rate


@dataclass(frozen=True, slots=True)
class _Quota:
    rate: Rate | None
    share: Share


class Quotas:
    """Of all tenants. What they have used is counted elsewhere: other settings can take the place
    of these (:meth:`configure`), and every count goes on."""

    def __init__(self, settings: Settings) -> None:
        self._others: _Quota
        self._own: dict[str, _Quota]
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Let these settings hold from now on."""
        self._others = _quota(settings, None)
        tenants = settings.gateway.tenants
        self._own = {tenant.name: _quota(settings, tenant) for tenant in tenants}

    def rate_of(self, tenant: str) -> Rate | None:
        """How often it may ask; None where it may as it likes."""
        return self._own.get(tenant, self._others).rate

    def share_of(self, tenant: str) -> Share:
        """What it may have of the hub."""
        return self._own.get(tenant, self._others).share


def _quota(settings: Settings, tenant: TenantEntry | None) -> _Quota:
    per_minute = settings.requests_per_minute
    generations = settings.max_generations
    subscribers = settings.max_tenant_subscribers
    if tenant is not None:
        per_minute = _first(tenant.requests_per_minute, per_minute)
        generations = _first(tenant.max_generations, generations)
        subscribers = _first(tenant.max_subscribers, subscribers)
    rate = Rate(settings.rate_limiter, per_minute, settings.burst)
    return _Quota(rate if math.isfinite(per_minute) else None, Share(generations, subscribers))


def _first(own: float | None, of_all: float) -> float:
    return of_all if own is None else own
