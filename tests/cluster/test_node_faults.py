"""Nodes, a broker, and what can go wrong between them. In virtual time, over and over."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.nodes import REQUEST, TERMS, Member, open_member, open_members
from tests.support.reading import Reading, read_to_end
from tests.support.source import ScriptedSource
from trioproxy.cluster import Ref
from trioproxy.fanout import COMPLETED, Generation
from trioproxy.testing.broker import FakeBroker

BEAT = TERMS.lease / 4
JUDGED = TERMS.lease + 2 * BEAT
"""Within so many seconds a lease that is not renewed is seen to have run out."""

EVERY = 0.02
"""Seconds between two tokens."""


async def test_a_node_with_the_only_reader_is_cut_off(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        async with one.reading():
            (call,) = one.calls
            await stack.enter_async_context(two.reading())
            await trio.sleep(1)
        cut_at = trio.current_time()
        broker.cut("node1")
        await trio.sleep(JUDGED)

        assert not call.is_open
        assert call.exits[0].at - cut_at <= TERMS.lease + BEAT


async def test_an_owner_that_is_gone_is_told_once_to_each_reader_elsewhere(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with (
        open_members(broker, 3) as (one, two, three),
        one.reading() as first,
        two.reading() as second,
        three.reading() as third,
    ):
        one.calls[0].arrive(b"text")
        await trio.sleep(20)
        broker.cut("node0")
        cut_at = trio.current_time()

        for reader in (second, third):
            reading = await read_to_end(reader)
            assert reading.data == [b"text"]
            assert reading.end is not None
            assert reading.end.reason == "owner_lost"
            assert trio.current_time() - cut_at <= JUDGED
        assert first.generation.outcome is None

        async with two.reading() as again, three.reading() as joined:
            assert again.generation.id == joined.generation.id != first.generation.id
            assert len(two.calls) == 1


async def test_an_owner_that_was_taken_for_dead_keeps_its_readers_and_publishes_nothing(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with (
        open_members(broker, 2) as (one, two),
        one.reading() as first,
        two.reading() as second,
    ):
        (call,) = one.calls
        await trio.sleep(20)
        broker.cut("node0")
        assert (await read_to_end(second)).end is not None
        broker.mend("node0")
        log = [name for name in broker.memory.seconds_left() if name.endswith(":l")]
        await trio.sleep(BEAT)
        call.arrive(b"late")
        await trio.sleep(BEAT)
        call.complete()

        reading = await read_to_end(first)
        assert (reading.data, reading.end) == ([b"late", b"[DONE]"], COMPLETED)
        async with two.reading_by_id(first.generation.id) as reader:
            told = await read_to_end(reader)
        assert told.data == []
        assert told.end is not None
        assert told.end.reason == "owner_lost"
        assert len(log) == 1


async def test_an_owner_that_is_gone_when_all_was_said_is_not_told(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    broker.delay = 0.1
    async with open_members(broker, 2) as (one, two), one.reading(), two.reading() as second:
        await trio.sleep(20)
        one.calls[0].complete(b"text")
        await trio.sleep(0.08)  # it is written, and its end is not told
        broker.cut("node0")
        reading = await read_to_end(second)
        async with two.reading() as again:  # it cannot be known yet that it is not to be joined
            same = await read_to_end(again)
        await trio.sleep(JUDGED)
        async with two.reading() as fresh:
            assert fresh.generation.id != second.generation.id

    for told in (reading, same):
        assert (told.data, told.end) == ([b"text", b"[DONE]"], COMPLETED)


async def test_a_node_that_has_not_heard_that_it_was_elected_is_told_as_lost_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_members(FakeBroker(), 2) as (one, two):
        await one.node.broker_of(REQUEST).elect(Ref.new(REQUEST), b"about")
        asked_at = trio.current_time()

        async with two.reading() as reader:
            reading = await read_to_end(reader)

        assert trio.current_time() - asked_at < 1
        assert reading.end is not None
        assert reading.end.reason == "owner_lost"
        async with two.reading() as again:
            assert not again.generation.is_replica
            assert len(two.calls) == 1


async def test_what_has_ended_while_a_node_was_cut_off_is_read_to_its_end(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), one.reading(), two.reading() as second:
        (call,) = one.calls
        call.arrive(b"text")
        await trio.sleep(1)
        broker.cut("node1")
        await trio.sleep(2 * TERMS.lease)  # nobody is interested, to all that the owner knows
        call.complete(b"more")
        await trio.sleep(1)
        broker.mend("node1")

        with trio.fail_after(JUDGED):
            reading = await read_to_end(second)

    assert (reading.data, reading.end) == ([b"text", b"more", b"[DONE]"], COMPLETED)


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0, 5.9])
async def test_a_broker_that_stops_delays_readers_elsewhere_and_nobody_else(
    autojump_clock: MockClock, seconds: float
) -> None:
    broker = FakeBroker()
    async with running(broker) as (one, two, mine, theirs):
        await trio.sleep(20)
        broker.stop()
        await trio.sleep(seconds)
        assert mine.generation.transcript.last - theirs.generation.transcript.last > 10
        broker.go_on()
        await trio.sleep(5)

        check(one, two, mine, theirs)


@pytest.mark.parametrize("away", [0.0, 1.0, 3.0, 20.0])
async def test_a_broker_that_restarts_empty_is_told_again_and_no_second_call_is_made(
    autojump_clock: MockClock, away: float
) -> None:
    broker = FakeBroker()
    async with running(broker) as (one, two, mine, theirs):
        await trio.sleep(20)
        for name in ("node0", "node1"):
            broker.cut(name)
        await trio.sleep(away)
        broker.wipe()
        for name in ("node0", "node1"):
            broker.mend(name)
        async with two.reading() as third:
            assert third.generation is theirs.generation
        async with open_member(broker, "node9") as nine, nine.reading() as late:
            assert late.generation.id == mine.generation.id
        await trio.sleep(10)

        check(one, two, mine, theirs)


async def test_who_comes_back_late_to_a_broker_that_restarted_empty_has_not_left(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        async with one.reading():
            (call,) = one.calls
            second = await stack.enter_async_context(two.reading())
            await trio.sleep(1)
        await trio.sleep(1)  # it was left at home, and is read by the other node alone
        broker.cut("node0")
        broker.cut("node1")
        broker.wipe()
        broker.mend("node0")
        await trio.sleep(2 * BEAT)  # the owner has looked who is interested
        broker.mend("node1")
        await trio.sleep(2 * TERMS.lease)
        call.complete(b"text")

        reading = await read_to_end(second)

    assert (reading.data, reading.end) == ([b"text", b"[DONE]"], COMPLETED)


async def test_replies_that_are_lost_change_nothing(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with running(broker) as (one, two, mine, theirs):
        for number in range(40):
            broker.lose_replies(f"node{number % 2}", 3)
            await trio.sleep(0.5)
        await trio.sleep(5)

        check(one, two, mine, theirs)


async def test_a_broker_that_is_full_delays_readers_elsewhere(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with running(broker) as (one, two, mine, theirs):
        await trio.sleep(5)
        broker.is_full = True
        await trio.sleep(60)
        broker.is_full = False
        await trio.sleep(5)

        check(one, two, mine, theirs)


async def test_a_broker_whose_clock_jumps_back_changes_nothing(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with running(broker) as (one, two, mine, theirs):
        await trio.sleep(5)
        broker.jump(-30)
        await trio.sleep(60)

        check(one, two, mine, theirs)


async def test_a_broker_that_is_gone_for_good_is_told_to_readers_elsewhere(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with running(broker) as (one, two, mine, theirs):
        await trio.sleep(5)
        for name in ("node0", "node1"):
            broker.cut(name)
        await trio.sleep(31)

        end = theirs.generation.outcome
        assert end is not None
        assert end.reason == "broker_lost"
        assert mine.generation.outcome is None
        assert one.calls[0].is_open
        broker.mend("node0")
        broker.mend("node1")
        await trio.sleep(10)
        assert two.calls == []


class Running:
    def __init__(self, generation: Generation, reading: Reading) -> None:
        self.generation = generation
        self.reading = reading


@asynccontextmanager
async def running(
    broker: FakeBroker,
) -> AsyncGenerator[tuple[Member, Member, Running, Running]]:
    """Two nodes, a reader at each, and an engine that says a number every so often."""
    async with (
        open_members(broker, 2) as (one, two),
        one.reading() as first,
        two.reading() as second,
        trio.open_nursery() as nursery,
    ):
        mine, theirs = Reading(), Reading()
        nursery.start_soon(mine.follow, first)
        nursery.start_soon(theirs.follow, second)
        nursery.start_soon(say, one.calls[0])
        yield one, two, Running(first.generation, mine), Running(second.generation, theirs)
        nursery.cancel_scope.cancel()


async def say(call: ScriptedSource) -> None:
    number = 0
    while True:
        call.arrive(b"%d" % number)
        number += 1
        await trio.sleep(EVERY)


def check(one: Member, two: Member, mine: Running, theirs: Running) -> None:
    """One call, no hole, nothing twice, and all is there but the latest."""
    assert len(one.calls) + len(two.calls) == 1
    assert theirs.generation.outcome is None
    for run in (mine, theirs):
        assert run.reading.data == [b"%d" % number for number in range(len(run.reading.data))]
        assert run.reading.accounted == list(range(1, len(run.reading.data) + 1))
    assert len(mine.reading.data) - len(theirs.reading.data) < 5


async def test_an_owner_that_has_heard_of_readers_elsewhere_does_not_close_it_unasked(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        async with one.reading():
            (call,) = one.calls
            call.arrive(*(b"%d" % number for number in range(5000)))
            reader = await stack.enter_async_context(two.reading())
            await trio.sleep(0.001)
            broker.cut("node0")
        await trio.sleep(2)
        broker.mend("node0")
        await trio.sleep(1)
        call.complete()

        reading = await read_to_end(reader)

        assert reading.data == [*(b"%d" % number for number in range(5000)), b"[DONE]"]
        assert reading.end == COMPLETED


async def test_an_owner_that_cannot_ask_closes_it_when_its_lease_is_over(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        async with one.reading():
            (call,) = one.calls
            reader = await stack.enter_async_context(two.reading())
            await trio.sleep(1)
            broker.cut("node0")
            left_at = trio.current_time()
        reading = await read_to_end(reader)
        await trio.sleep(BEAT)

        assert call.exits[0].at - left_at <= TERMS.lease
        assert reading.end is not None
        assert reading.end.reason == "owner_lost"


async def test_an_owner_that_closes_it_unasked_is_told_as_lost_to_readers_elsewhere(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        async with one.reading():
            one.calls[0].arrive(b"text")
            await trio.sleep(1)
            broker.cut("node0")
            reader = await stack.enter_async_context(two.reading())
        await trio.sleep(1)
        broker.mend("node0")

        reading = await read_to_end(reader)

        assert reading.accounted == list(range(1, len(reading.data) + 1))
        assert reading.end is not None
        assert reading.end.reason == "owner_lost"


async def test_a_silence_before_the_broker_is_away_is_not_held_against_it(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with (
        open_members(broker, 2) as (one, two),
        one.reading(),
        two.reading() as second,
    ):
        for silence in range(20, 30):
            await trio.sleep(silence)
            broker.cut("node1")
            await trio.sleep(25)
            broker.mend("node1")

        one.calls[0].complete(b"text")
        assert (await read_to_end(second)).end == COMPLETED
