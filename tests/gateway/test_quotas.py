"""What the settings and a tenant's own table come to."""

from __future__ import annotations

import pytest

from trioproxy.config import Gateway, Settings, TenantEntry
from trioproxy.fanout import Share
from trioproxy.gateway import Quotas, Rate, RateLimited, Rates, hash_key

KEYS = (hash_key(b"tp-key"),)


def settings_with(*tenants: TenantEntry, **settings: float) -> Settings:
    return Settings(gateway=Gateway(tenants=tenants), **settings)  # type: ignore[arg-type]


def test_a_tenants_own_table_wins_where_it_says_something() -> None:
    own = TenantEntry(name="own", keys=KEYS, requests_per_minute=5, max_subscribers=3)
    other = TenantEntry(name="other", keys=KEYS, max_generations=2)
    quotas = Quotas(settings_with(own, other, requests_per_minute=10, max_generations=7))

    assert quotas.rate_of("own") == Rate("sliding-window", 5, 10)
    assert quotas.share_of("own") == Share(7, 3)
    assert quotas.rate_of("other") == quotas.rate_of("~digest") == Rate("sliding-window", 10, 10)
    assert quotas.share_of("other") == Share(2, float("inf"))


def test_who_has_no_rate_is_not_counted() -> None:
    free = TenantEntry(name="free", keys=KEYS, requests_per_minute=float("inf"))

    assert Quotas(settings_with()).rate_of("anybody") is None
    assert Quotas(settings_with(free, requests_per_minute=1)).rate_of("free") is None


async def test_other_settings_take_their_place_and_what_was_counted_stays() -> None:
    quotas = Quotas(settings_with(requests_per_minute=1))
    rates = Rates(quotas.rate_of)
    rates.take("one")

    quotas.configure(settings_with(requests_per_minute=2, max_generations=3))

    rates.take("one")
    with pytest.raises(RateLimited):
        rates.take("one")
    assert quotas.share_of("one").max_generations == 3
