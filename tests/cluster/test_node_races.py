"""What happens at two nodes, or at one and its broker, in the same moment. In virtual time."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.nodes import REQUEST, Member, open_members
from tests.cluster.test_node_faults import running
from tests.support.reading import Reading, read_to_end
from tests.support.source import ScriptedSource
from trioproxy.cluster import BrokerDown, Ref
from trioproxy.fanout import COMPLETED, SourceFailed
from trioproxy.testing.broker import FakeBroker


@pytest.mark.parametrize("ticks", range(4))
async def test_who_reads_by_id_as_the_replica_is_abandoned_has_one_of_its_own(
    autojump_clock: MockClock, ticks
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), one.reading() as first:
        (call,) = one.calls
        call.arrive(b"a", b"b", b"c")
        stack = AsyncExitStack()
        second = await stack.enter_async_context(two.reading_by_id(first.generation.id))
        await trio.sleep(1)
        assert second.generation.transcript.last == 3
        reading = Reading()

        async def again() -> None:
            async with two.reading_by_id(first.generation.id) as third:
                await reading.follow(third)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(again)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            with trio.CancelScope(shield=True):
                await stack.aclose()
            await trio.sleep(1)
            call.arrive(b"d")
            await trio.sleep(1)
            call.complete()
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
    assert reading.data == [b"a", b"b", b"c", b"d", b"[DONE]"], (reading.data, reading.end)
    assert reading.end == COMPLETED


async def _enter(member: Member, scope: trio.CancelScope, linger: float = 0.0) -> None:
    with scope:
        async with member.reading(linger=linger):
            await trio.sleep_forever()


async def test_who_comes_and_leaves_while_it_is_closed_is_noticed(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), trio.open_nursery() as nursery:
        mine, theirs, again = (trio.CancelScope() for _ in range(3))
        nursery.start_soon(_enter, one, mine)
        await trio.sleep(1)
        nursery.start_soon(_enter, two, theirs)
        await trio.sleep(1)
        (call,) = one.calls
        mine.cancel()
        await trio.sleep(3)
        assert call.is_open
        broker.delay = 0.1
        theirs.cancel()  # leave 0.05 -> letter -> close asked, answered 0.1 later
        await trio.sleep(0.1)
        nursery.start_soon(_enter, one, again)
        await trio.sleep(0.1)
        again.cancel()
        await trio.sleep(0.05)
        broker.delay = 0.0
        await trio.sleep(300)
        assert not call.is_open, "nobody has read it for five minutes"
        nursery.cancel_scope.cancel()


async def test_a_longer_linger_that_is_asked_for_meanwhile_is_kept(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, _two):
        async with one.reading(linger=5.0) as first:
            (call,) = one.calls
        await trio.sleep(1)
        assert one.node.hub.start(REQUEST, ScriptedSource(), linger=30.0) is first.generation
        await trio.sleep(10)
        assert call.is_open, first.generation.outcome


async def test_a_log_that_is_lost_before_it_is_read_is_told_as_expired(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 3) as (one, two, three):
        async with one.reading() as first, two.reading() as second:
            one.calls[0].complete(b"text")
            await read_to_end(second)
        await trio.sleep(1)
        broker.delay = 0.2
        reading = Reading()
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                async with three.reading_by_id(first.generation.id) as third:
                    await reading.follow(third)

            nursery.start_soon(read)
            await trio.sleep(0.25)  # joined (ended), not read yet
            broker.wipe()
            broker.delay = 0.0
            await trio.sleep(600)
            nursery.cancel_scope.cancel()
        assert reading.end is not None, "a reader hangs"


@pytest.mark.parametrize(("delay", "every"), [(0.01, 0.008), (0.002, 0.0015)])
async def test_who_begins_to_follow_does_not_hold_up_what_is_read(
    autojump_clock: MockClock, delay: float, every: float
) -> None:
    broker = FakeBroker()
    async with (
        open_members(broker, 2) as (one, two),
        one.reading(),
        two.reading() as second,
        trio.open_nursery() as nursery,
    ):
        reading = Reading()
        nursery.start_soon(reading.follow, second)
        requests = [f"{n:032x}" for n in range(300)]
        for request in requests:
            await nursery.start(_hold, one, request)
        broker.delay = delay
        one.calls[0].arrive(b"before")
        await trio.sleep(1)
        assert reading.data == [b"before"]
        for request in requests[:50]:
            nursery.start_soon(_hold2, two, request)
            await trio.sleep(every)
        one.calls[0].arrive(b"meanwhile")
        began = trio.current_time()
        got_at = None
        for request in requests[50:]:
            nursery.start_soon(_hold2, two, request)
            await trio.sleep(every)
            if got_at is None and len(reading.data) > 1:
                got_at = trio.current_time()
        nursery.cancel_scope.cancel()
    assert got_at is not None
    assert got_at - began < 0.2


async def _hold(member: Member, request: str, *, task_status: trio.TaskStatus[None]) -> None:
    async with member.reading(request):
        task_status.started()
        await trio.sleep_forever()


async def _hold2(member: Member, request: str) -> None:
    async with member.reading(request):
        await trio.sleep_forever()


@pytest.mark.parametrize("at", [n / 20 for n in range(-8, 8, 2)])
async def test_what_is_reaped_before_somebody_has_come_is_begun_anew(
    autojump_clock: MockClock, at: float
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 3) as (one, two, three), one.reading() as first:
        await trio.sleep(20)
        broker.cut("node0")
        ref = Ref.parse(first.generation.id)
        port = two.node._lanes[0].broker
        await three.node._lanes[0].settle()
        meta = broker.memory._meta(ref, None, "running")
        await trio.sleep(meta.lease - broker.memory.now + at)
        broker.delay = 0.2
        async with trio.open_nursery() as nursery:

            async def reap() -> None:  # what any node's heartbeat or election does
                await trio.sleep(0.08)
                await port.reap(ref)

            nursery.start_soon(reap)
            async with three.reading() as third:
                told = None
                if (
                    third.generation.id == first.generation.id
                    and not three.node._lanes[0].follower.followed[ref].node
                ):
                    with trio.move_on_after(5):
                        told = (await read_to_end(third)).end
        assert told is None, f"it was reaped before this reader came to it, which is told {told}"


async def test_a_broker_that_stops_as_the_last_reader_here_leaves_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        async with one.reading():
            second = await stack.enter_async_context(two.reading())
            (call,) = one.calls
            await trio.sleep(20)
            broker.stop()
            await trio.sleep(0.1)
        await trio.sleep(2)
        broker.go_on()
        call_open = call.is_open
        if call_open:
            call.complete(b"text")
        reading = await read_to_end(second)
    assert reading.end == COMPLETED, reading.end


async def test_what_is_being_closed_is_read_by_its_id(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two):
        async with one.reading() as first:
            one.calls[0].arrive(b"text")
            await trio.sleep(1)
            broker.delay = 0.1
        await trio.sleep(0.055)
        async with two.reading_by_id(first.generation.id) as second:
            reading = await read_to_end(second)
        assert reading.data == [b"text"]


async def test_the_last_reader_elsewhere_that_leaves_while_it_is_asked_is_heard(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), trio.open_nursery() as nursery:
        mine, theirs = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(_enter, one, mine)
        await trio.sleep(1)
        nursery.start_soon(_enter, two, theirs)
        await trio.sleep(2.3)
        (call,) = one.calls
        broker.delay = 0.02
        mine.cancel()
        await trio.sleep(0.001)
        theirs.cancel()
        left_at = trio.current_time()
        await trio.sleep(20)
        assert call.exits[0].at - left_at <= 0.5, call.exits[0].at - left_at


@pytest.mark.parametrize("end", ["fail", "stop"])
async def test_an_end_while_the_broker_is_away_that_comes_back_empty_is_told(
    autojump_clock, end
) -> None:
    broker = FakeBroker()
    async with (
        open_members(broker, 2) as (one, two),
        one.reading() as first,
        two.reading() as second,
    ):
        (call,) = one.calls
        call.arrive(b"text")
        await trio.sleep(20)
        for name in ("node0", "node1"):
            broker.cut(name)
        await trio.sleep(0.5)
        if end == "fail":
            call.fail(SourceFailed("broken", "a crash"))
        else:
            first.generation.cancel("stopped")
        await trio.sleep(0.5)
        broker.wipe()
        for name in ("node0", "node1"):
            broker.mend(name)
        reading = await read_to_end(second)
    assert reading.end.reason in ("elsewhere", "stopped"), reading.end


async def test_a_stop_while_the_link_is_away_is_told_later(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with (
        open_members(broker, 3) as (one, two, _three),
        one.reading() as first,
        two.reading() as second,
    ):
        await trio.sleep(20)
        broker.cut("node1")
        two.node.stop(second.generation)
        await trio.sleep(1)
        broker.mend("node1")
        await trio.sleep(60)
        assert first.generation.outcome is not None, "stopped, and it goes on"


async def test_reads_that_fail_though_there_is_a_link_are_a_broker_that_is_lost(
    autojump_clock: MockClock,
) -> None:
    """CLUSTERDOWN, BUSY: each read fails, the handshake does not."""
    broker = FakeBroker()
    async with running(broker) as (_one, two, _mine, theirs):
        await trio.sleep(20)

        async def fails(*args, **kwargs):
            await trio.sleep(0.01)
            raise BrokerDown("CLUSTERDOWN")

        two.node._lanes[0].broker.read = fails
        two.node._lanes[0].follower._reading.cancel()
        await trio.sleep(120)
        assert theirs.generation.outcome is not None, "patience was 30 seconds"


async def test_what_is_revived_knows_what_it_is_about(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        async with one.reading() as first:
            one.calls[0].complete(b"text")
            await trio.sleep(1)
        ref = Ref.parse(first.generation.id)
        assert (await two.node.look(ref)).about == b"about"
        broker.delay = 0.3
        await stack.enter_async_context(two.reading_by_id(first.generation.id))
        broker.wipe()
        broker.delay = 0
        await trio.sleep(3)
        assert (await two.node.look(ref)).about == b"about"


async def test_a_linger_that_came_while_it_was_closed_is_kept(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, _two):
        async with one.reading() as first:
            (call,) = one.calls
            await trio.sleep(1)
            broker.delay = 0.1
        await trio.sleep(0.03)
        async with one.reading(linger=20.0) as again:
            assert again.generation is first.generation
        await trio.sleep(5)
        assert call.is_open, first.generation.outcome


async def test_who_comes_and_leaves_while_it_is_closed_is_noticed_where_all_is_published(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2, always=True) as (one, _two), trio.open_nursery() as nursery:
        mine, again = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(_enter, one, mine)
        await trio.sleep(5)
        (call,) = one.calls
        broker.delay = 0.1
        mine.cancel()
        await trio.sleep(0.05)
        nursery.start_soon(_enter, one, again)
        await trio.sleep(0.1)
        again.cancel()
        await trio.sleep(0.05)
        broker.delay = 0.0
        await trio.sleep(300)
        assert not call.is_open, "nobody has read it for five minutes"
        nursery.cancel_scope.cancel()
