"""The memory channel of one subscriber: it carries one ring at most, and loses none."""

from __future__ import annotations

import pytest
import trio
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

from trioproxy.fanout.subscriber import Doorbell


async def test_a_ring_while_nobody_waits_is_kept() -> None:
    bell = Doorbell()
    bell.ring()

    with assert_checkpoints():
        await bell.wait()

    bell.close()


async def test_many_rings_are_one(autojump_clock: MockClock) -> None:
    bell = Doorbell()
    for _ in range(3):
        bell.ring()
    await bell.wait()

    with trio.move_on_after(1) as second_wait:
        await bell.wait()

    assert second_wait.cancelled_caught
    bell.close()


async def test_a_ring_that_meets_a_cancellation_is_heard() -> None:
    async def wait() -> None:
        await bell.wait()
        heard.append(True)

    heard: list[bool] = []
    bell = Doorbell()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        bell.ring()
        nursery.cancel_scope.cancel()

    assert heard == [True]
    bell.close()


async def test_a_ring_for_who_has_left_is_harmless() -> None:
    bell = Doorbell()
    bell.close()

    with assert_no_checkpoints():
        bell.ring()


async def test_a_wait_that_the_leave_cuts_short_is_told_that_it_was_closed() -> None:
    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await bell.wait()

    bell = Doorbell()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        bell.close()
