"""Brokers in lanes: what is wrong with one costs the generations of the others nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.nodes import TERMS, Member, open_members
from tests.support.reading import Reading, read_to_end
from trioproxy.cluster import BrokerDown, Lease
from trioproxy.cluster.heartbeat import BEATS
from trioproxy.cluster.keys import lane_of, slot_of
from trioproxy.cluster.node import FAREWELL
from trioproxy.fanout import COMPLETED
from trioproxy.testing.broker import FakeBroker

FIRST, SECOND = "bb" * 16, "aa" * 16
"""Requests, of the first and of the second lane of two."""

BEAT = TERMS.lease / BEATS
MOMENT = 0.5
PATIENCE = 30.0
"""That of a node, unless it is told another."""


async def test_requests_are_divided_among_the_lanes(autojump_clock: MockClock) -> None:
    brokers = [FakeBroker(), FakeBroker()]
    async with (
        open_members(brokers[0], 2, beside=brokers[1:]) as (one, two),
        one.reading(FIRST),
        two.reading(FIRST),
        one.reading(SECOND),
        two.reading(SECOND),
    ):
        assert [len(one.calls), len(two.calls)] == [2, 0]
        for broker, request in zip(brokers, (FIRST, SECOND), strict=True):
            names = broker.memory.seconds_left()
            assert {name.split(":")[2] for name in names} == {request, "n", "nodes", "epoch"}
        assert one.node.broker_of(FIRST) is one.node.brokers[0]


async def test_a_lane_that_is_down_holds_up_no_other(autojump_clock: MockClock) -> None:
    first, second = FakeBroker(), FakeBroker()
    async with (
        open_members(first, 2, beside=[second]) as (one, two),
        one.reading(FIRST),
        one.reading(SECOND),
        trio.open_nursery() as nursery,
    ):
        at_two = {request: Reading() for request in (FIRST, SECOND)}
        for request, reading in at_two.items():
            nursery.start_soon(follow, two, request, reading)
        await trio.sleep(MOMENT)
        first.stop()
        for number in range(10):
            for call in one.calls:
                call.arrive(b"%d" % number)
            await trio.sleep(1)
            assert len(at_two[SECOND].data) == number + 1
        assert at_two[FIRST].data == []

        with trio.fail_after(MOMENT):
            async with two.node.place("dd" * 16, b"about") as placed:  # in the second lane
                assert isinstance(placed, Lease)
            with pytest.raises(BrokerDown):
                async with two.node.place("00" * 16, b"about"):
                    pass
        first.go_on()
        await trio.sleep(2 * BEAT)
        for call in one.calls:
            call.complete()

    expected = [*(b"%d" % number for number in range(10)), b"[DONE]"]
    for reading in at_two.values():
        assert (reading.data, reading.end) == (expected, COMPLETED)
    assert not two.calls


async def test_who_reads_in_a_lane_that_is_lost_is_told_and_nobody_else(
    autojump_clock: MockClock,
) -> None:
    first, second = FakeBroker(), FakeBroker()
    async with (
        open_members(first, 2, beside=[second]) as (one, two),
        one.reading(FIRST),
        one.reading(SECOND),
        two.reading(FIRST) as lost,
        two.reading(SECOND) as kept,
    ):
        first.cut("node1")
        with trio.fail_after(PATIENCE + 2 * BEAT):
            reading = await read_to_end(lost)
        assert reading.end is not None
        assert reading.end.reason == "broker_lost"

        one.calls[1].complete(b"text")
        assert (await read_to_end(kept)).data == [b"text", b"[DONE]"]


async def test_a_lease_is_judged_by_the_link_to_its_own_lane(autojump_clock: MockClock) -> None:
    """Nobody could renew anything there: who is back first does not take the others for dead."""
    first, second = FakeBroker(), FakeBroker()
    async with (
        open_members(first, 2, beside=[second]) as (one, two),
        one.reading(FIRST),
        two.reading(FIRST) as reader,
    ):
        for node in ("node0", "node1"):
            first.cut(node)
        await trio.sleep(2 * TERMS.lease)
        first.mend("node1")
        await trio.sleep(2 * BEAT)
        first.mend("node0")
        await trio.sleep(2 * BEAT)

        one.calls[0].complete(b"text")
        reading = await read_to_end(reader)
        assert (reading.data, reading.end) == ([b"text", b"[DONE]"], COMPLETED)


async def test_a_lane_that_comes_back_empty_is_restored_before_it_is_asked(
    autojump_clock: MockClock,
) -> None:
    first, second = FakeBroker(), FakeBroker()
    async with open_members(first, 2, beside=[second]) as (one, two), one.reading(FIRST) as reader:
        first.wipe()

        began = trio.current_time()
        async with two.reading(SECOND):
            assert trio.current_time() == began
        async with two.reading(FIRST) as joined:
            assert joined.generation.id == reader.generation.id
        assert trio.current_time() - began <= 2 * BEAT
        assert len(two.calls) == 1


async def test_a_node_ends_in_its_time_when_a_lane_is_down(autojump_clock: MockClock) -> None:
    first, second = FakeBroker(), FakeBroker()
    async with open_members(first, 2, beside=[second]) as (one, two):
        async with one.reading(FIRST), one.reading(SECOND), two.reading(SECOND) as reader:
            first.stop()
            one.calls[1].complete(b"text")
            await read_to_end(reader)
        began = trio.current_time()
    assert trio.current_time() - began < 2 * FAREWELL + 0.1  # one after the other


def test_a_lane_has_the_slot_that_a_cluster_finds_for_its_tag() -> None:
    """As ``CLUSTER KEYSLOT`` tells."""
    assert [slot_of(lane) for lane in (0, 1, 2, 3, 63)] == [13907, 9842, 5649, 1584, 10499]


def test_requests_are_spread_over_the_lanes_the_same_everywhere() -> None:
    lanes = [lane_of(f"{number:032x}", 4) for number in range(400)]

    assert lanes[:6] == [lane_of(f"{number:032x}", 4) for number in range(6)]
    assert all(60 < lanes.count(lane) < 140 for lane in range(4))
    assert {lane_of(f"{number:032x}", 1) for number in range(10)} == {0}


async def follow(member: Member, request: str, reading: Reading) -> None:
    async with member.reading(request) as subscriber:
        await reading.follow(subscriber)
