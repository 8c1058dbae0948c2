"""The courier goes where it was sent, once each, and lets others have their turn."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trioproxy.fanout.courier import STOPS_AT_ONCE, Courier


class Log(list[str]):
    """What happened, in order."""


class LoggingStop:
    def __init__(self, name: str, log: Log) -> None:
        self._name = name
        self._log = log

    def deliver(self) -> None:
        self._log.append(self._name)


async def test_each_stop_is_made_once_in_the_order_of_the_news() -> None:
    log, courier = Log(), Courier()
    first, second = LoggingStop("first", log), LoggingStop("second", log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(courier.run)
        for stop in (second, first, second):
            courier.send(stop)
        await wait_all_tasks_blocked()
        assert log == ["second", "first"]

        courier.send(second)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert log == ["second", "first", "second"]


async def test_news_that_a_delivery_brings_are_for_the_next_round() -> None:
    log, courier = Log(), Courier()

    class Busy(LoggingStop):
        def deliver(self) -> None:
            super().deliver()
            if len(log) < 3:
                courier.send(self)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(courier.run)
        courier.send(Busy("busy", log))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert log == ["busy"] * 3


async def test_many_stops_do_not_keep_the_others_waiting() -> None:
    log, courier = Log(), Courier()
    seen: list[int] = []

    async def look() -> None:
        while len(log) < 3 * STOPS_AT_ONCE:
            seen.append(len(log))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(courier.run)
        for number in range(3 * STOPS_AT_ONCE):
            courier.send(LoggingStop(str(number), log))
        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert seen[-1] >= STOPS_AT_ONCE


async def test_one_that_is_cancelled_is_sent_in_vain() -> None:
    log, courier = Log(), Courier()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(courier.run)
        nursery.cancel_scope.cancel()

    courier.send(LoggingStop("late", log))

    assert log == []
