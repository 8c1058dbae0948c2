"""The switches of the broker in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.brokers import renew
from trioproxy.cluster import (
    MAIL_START,
    START,
    Addition,
    Batch,
    BrokerDown,
    Cursor,
    Fenced,
    Lease,
    Letter,
    NotRunning,
    Ref,
    Running,
    Terms,
)
from trioproxy.testing import Trial, cancel_at_every_checkpoint
from trioproxy.testing.broker import FakeBroker, FakePort
from trioproxy.wire import Message

REF = Ref("ab12", "gen_1")
EVENTS = Batch(1, [Message(None, b"one"), Message(None, b"two")])


async def own(port: FakePort) -> Lease:
    lease = await port.elect(REF, b"about")
    assert isinstance(lease, Lease)
    return lease


async def test_a_lost_reply_is_of_a_step_that_was_done(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    one = broker.port("one")
    broker.lose_replies("one", 2)

    for _ in range(2):
        with pytest.raises(BrokerDown):
            await one.elect(REF, b"about")

    assert await one.elect(REF, b"about") == Lease(REF, 1)
    assert broker.operations == 3


async def test_a_delay_is_how_long_an_operation_takes(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    broker.delay = 0.25
    began = trio.current_time()

    await broker.port("one").elect(REF, b"about")

    assert trio.current_time() - began == 0.25


async def test_a_node_that_is_cut_off_has_no_link_until_it_is_mended(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    one, two = broker.port("one"), broker.port("two")
    lease = await own(one)
    broker.cut("one")

    assert one.up_since is None
    for refused in (one.ping, lambda: one.read({}, MAIL_START, wait=1)):
        with pytest.raises(BrokerDown):
            await refused()
    await trio.sleep(10)
    assert await two.reap(REF)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.wait_up)
        await trio.sleep(1)
        broker.mend("one")

    assert one.up_since == trio.current_time()
    with pytest.raises(Fenced):
        await renew(one, lease)


async def test_a_cut_ends_a_read_and_what_is_under_way(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    broker.delay = 2.0
    one = broker.port("one")
    done: list[str] = []

    async def told_down(operation: Callable[[], Awaitable[object]], name: str) -> None:
        with pytest.raises(BrokerDown):
            await operation()
        done.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(told_down, lambda: one.read({}, MAIL_START, wait=100), "read")
        nursery.start_soon(told_down, lambda: one.elect(REF, b"about"), "elect")
        await trio.sleep(1.5)
        broker.cut("one")

    assert set(done) == {"read", "elect"}
    broker.mend("one")
    assert isinstance(await broker.port("two").elect(REF, b"about"), Running)


async def test_a_broker_that_stops_does_what_it_was_asked_when_it_goes_on(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    one, two = broker.port("one"), broker.port("two")
    broker.stop()
    began = trio.current_time()
    with pytest.raises(BrokerDown):
        await one.elect(REF, b"about")
    assert trio.current_time() - began == 2.0
    with pytest.raises(BrokerDown):
        await one.read({}, MAIL_START, wait=1)
    await trio.sleep(1)
    assert one.up_since is None

    broker.go_on()

    assert one.up_since == trio.current_time()
    assert isinstance(await two.elect(REF._replace(generation="gen_2"), b"about"), Running)


async def test_a_broker_that_stops_for_a_moment_is_only_late(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    one = broker.port("one")
    broker.stop()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(own, one)
        await trio.sleep(1)
        broker.go_on()

    assert one.up_since == 0


async def test_a_clock_that_jumps_ends_what_holds_until_then(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    one, two = broker.port("one", Terms(lease=6)), broker.port("two")
    await own(one)
    broker.jump(7)

    assert await two.reap(REF)


async def test_what_is_wiped_is_unknown_and_read_on_once_restored(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    one, two = broker.port("one"), broker.port("two")
    lease = await own(one)
    broker.wipe()
    with pytest.raises(NotRunning, match="unknown"):
        await renew(one, lease)

    await one.restore(lease, b"about", None, EVENTS)

    news = await two.read({REF: Cursor(1, 1)}, MAIL_START, wait=0)
    assert news.logs == {REF: (Cursor(1, 2), [Batch(2, EVENTS.messages[1:])])}


def test_an_operation_that_is_cancelled_anywhere_was_done_or_not() -> None:
    async def publish(trial: Trial) -> tuple[Cursor, int]:
        broker = FakeBroker()
        broker.delay = 1.0
        one, two = broker.port("one"), broker.port("two")
        lease = await own(one)
        with trial.target():
            await two.join(REF)
            await one.publish([Addition(lease, EVENTS, 0)])
            await two.read({REF: START}, MAIL_START, wait=10)
            await two.send("one", Letter("cancel", REF, "two"))
            await two.leave(REF)
        news = await two.read({REF: START}, MAIL_START, wait=0)
        cursor, _ = news.logs.get(REF, (START, ()))
        return cursor, await renew(one, lease)

    def all_or_nothing(result: tuple[Cursor, int]) -> None:
        assert result in [(START, 0), (START, 1), (Cursor(1, 2), 1), (Cursor(1, 2), 0)]

    assert cancel_at_every_checkpoint(publish, all_or_nothing) > 10
