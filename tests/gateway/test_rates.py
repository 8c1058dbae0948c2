"""How often: against a model that forgets nothing and works everything out anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from fractions import Fraction

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trioproxy.config import RateLimiter
from trioproxy.gateway import Allowance, Rate, RateLimited, Rates
from trioproxy.gateway import rates as module

# Eighths of a second, which floats have exactly; some waits longer than the window.
WAITS = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 1000)), max_size=60)
LIMITS = st.integers(1, 8)


def window(limit: float) -> Rate:
    return Rate("sliding-window", limit)


def bucket(per_minute: float, burst: int) -> Rate:
    return Rate("token-bucket", per_minute, burst)


def play(program: Callable[[], Awaitable[None]]) -> None:
    trio.run(program, clock=MockClock(autojump_threshold=0))


def takes(rates: Rates, tenant: str = "one") -> bool:
    try:
        rates.take(tenant)
    except RateLimited:
        return False
    return True


@settings(deadline=None)
@given(WAITS, LIMITS)
def test_a_window_lets_through_whatever_the_minute_before_has_room_for(
    waits: list[int], limit: int
) -> None:
    async def program() -> None:
        rates = Rates(lambda tenant: window(limit))
        taken: list[float] = []
        for wait in waits:
            await trio.sleep(wait / 8)
            now = trio.current_time()
            recent = [at for at in taken if now - at < 60]
            left = rates.look("one")
            assert left is not None
            assert (left.limit, left.remaining) == (limit, limit - len(recent))
            assert left.reset == (recent[-1] + 60 - now if recent else 0)
            if len(recent) < limit:
                rates.take("one")
                taken.append(now)
            else:
                with pytest.raises(RateLimited) as refused:
                    rates.take("one")
                assert refused.value.retry_after == recent[0] + 60 - now

    play(program)


@settings(deadline=None)
@given(WAITS, st.integers(1, 480), LIMITS)
def test_a_bucket_lets_through_what_has_flowed_into_it(
    waits: list[int], per_minute: int, burst: int
) -> None:
    async def program() -> None:
        rates = Rates(lambda tenant: bucket(per_minute, burst))
        level, per_second = Fraction(burst), Fraction(per_minute, 60)
        for wait in waits:
            await trio.sleep(wait / 8)
            level = min(Fraction(burst), level + Fraction(wait, 8) * per_second)
            left = rates.look("one")
            assert left is not None
            assert (left.limit, left.remaining) == (burst, int(level))
            assert left.reset == pytest.approx(float((burst - level) / per_second), abs=1e-6)
            if level >= 1:
                rates.take("one")
                level -= 1
            else:
                with pytest.raises(RateLimited) as refused:
                    rates.take("one")
                due = float((1 - level) / per_second)
                assert refused.value.retry_after == pytest.approx(due, abs=1e-6)

    play(program)


@settings(deadline=None)
@given(WAITS, LIMITS, st.sampled_from(["token-bucket", "sliding-window"]))
def test_who_may_more_is_never_let_through_less(
    waits: list[int], limit: int, limiter: RateLimiter
) -> None:
    async def program() -> None:
        less = Rates(lambda tenant: Rate(limiter, limit, limit))
        more = Rates(lambda tenant: Rate(limiter, limit + 1, limit + 1))
        through = [0, 0]
        for wait in waits:
            await trio.sleep(wait / 8)
            through[0] += takes(less)
            through[1] += takes(more)
            assert through[0] <= through[1]

    play(program)


@pytest.mark.parametrize("rate", [window(3), bucket(7, 3)])
async def test_who_comes_back_when_told_to_is_let_through(
    rate: Rate, autojump_clock: MockClock
) -> None:
    rates = Rates(lambda tenant: rate)
    for _ in range(3):
        await trio.sleep(0.125)
        rates.take("one")
    for _ in range(20):
        with pytest.raises(RateLimited) as refused:
            rates.take("one")
        await trio.sleep(refused.value.retry_after)
        rates.take("one")


async def test_a_refusal_counts_nothing(autojump_clock: MockClock) -> None:
    rates = Rates(lambda tenant: window(1))
    rates.take("one")
    for _ in range(10):
        await trio.sleep(5)
        assert not takes(rates)
    await trio.sleep(10)

    assert takes(rates)


async def test_tenants_are_counted_apart_and_who_may_as_it_likes_not_at_all() -> None:
    rates = Rates({"one": window(1), "other": window(1), "free": None}.__getitem__)
    rates.take("one")
    rates.take("other")

    assert not takes(rates, "one")
    assert all(takes(rates, "free") for _ in range(100))
    assert rates.look("free") is None
    assert len(rates) == 2


async def test_what_was_counted_holds_against_another_rate(autojump_clock: MockClock) -> None:
    rate = window(2)
    rates = Rates(lambda tenant: rate)
    rates.take("one")
    rates.take("one")

    rate = window(4)
    assert rates.look("one") == Allowance(4, 2, 60.0)
    rate = window(1)
    await trio.sleep(1)
    assert rates.look("one") == Allowance(1, 0, 59.0)
    assert not takes(rates)
    await trio.sleep(59)
    assert takes(rates)


async def test_another_limiter_begins_anew() -> None:
    rate = window(1)
    rates = Rates(lambda tenant: rate)
    rates.take("one")

    rate = bucket(1, 1)

    assert takes(rates)
    assert not takes(rates)


@pytest.mark.parametrize("rate", [window(6), bucket(6, 6)])
async def test_who_has_all_of_it_again_is_forgotten(rate: Rate, autojump_clock: MockClock) -> None:
    rates = Rates(lambda tenant: rate)
    for number in range(500):
        rates.take(str(number))
        await trio.sleep(1)

    assert len(rates) <= 61


async def test_of_many_those_seen_longest_ago_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_TENANTS", 3)
    rates = Rates(lambda tenant: window(1))
    for tenant in ("a", "b", "c", "a", "d"):
        takes(rates, tenant)

    assert len(rates) == 3
    assert [takes(rates, tenant) for tenant in ("a", "d", "b")] == [False, False, True]
