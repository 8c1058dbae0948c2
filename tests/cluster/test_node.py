"""Nodes that share generations: joining, reading, leaving, stopping. In virtual time."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.cluster.nodes import REQUEST, TERMS, Member, open_members
from tests.support.reading import Reading, read_to_end
from tests.support.source import DONE, ScriptedSource
from trioproxy.cluster import NOTICE, Lease
from trioproxy.fanout import COMPLETED, Identity, Outcome, SourceFailed
from trioproxy.fanout.outcome import cancelled, failed
from trioproxy.testing import TaskCensus
from trioproxy.testing.broker import FakeBroker

MOMENT = 0.5
"""Seconds in which a thing that needs no fault to be judged has happened."""


async def test_one_call_is_made_for_readers_at_all_nodes(autojump_clock: MockClock) -> None:
    async with open_members(FakeBroker()) as members, trio.open_nursery() as nursery:
        readings = [Reading() for _ in range(90)]
        for number, reading in enumerate(readings):
            nursery.start_soon(follow, members[number % 3], reading)
        await trio.sleep(MOMENT)
        (call,) = [call for member in members for call in member.calls]
        for number in range(200):
            call.arrive(b"%d" % number)
            await trio.sleep(0.02)
        call.complete()

        await trio.sleep(MOMENT)

    expected = [*(b"%d" % number for number in range(200)), b"[DONE]"]
    assert all(reading.data == expected for reading in readings)
    assert all(reading.end == COMPLETED for reading in readings)


async def test_all_nodes_give_a_generation_one_id(autojump_clock: MockClock) -> None:
    async with (
        open_members(FakeBroker(), 2) as (one, two),
        one.reading() as first,
        two.reading() as second,
    ):
        assert first.generation.id == second.generation.id
        assert second.generation.is_replica


async def test_who_comes_late_reads_all_of_it(autojump_clock: MockClock) -> None:
    async with open_members(FakeBroker(), 2) as (one, two), one.reading() as first:
        (call,) = one.calls
        call.arrive(*(b"%d" % number for number in range(3000)))
        await anext(first)

        async with two.reading() as second, trio.open_nursery() as nursery:
            reading = Reading()
            nursery.start_soon(reading.follow, second)
            await trio.sleep(MOMENT)
            call.complete(b"last")

    assert reading.data == [*(b"%d" % number for number in range(3000)), b"last", b"[DONE]"]
    assert second.generation.head == b"head"


async def test_nothing_is_published_while_nobody_asks(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, _), one.reading():
        (call,) = one.calls
        call.arrive(b"one", b"two")
        await trio.sleep(3 * TERMS.lease)

        assert not any(name.endswith(":l") for name in broker.memory.seconds_left())


async def test_the_last_reader_of_another_node_ends_the_call(autojump_clock: MockClock) -> None:
    async with open_members(FakeBroker()) as (one, two, three):
        async with AsyncExitStack() as stack:
            async with AsyncExitStack() as owners:
                await owners.enter_async_context(one.reading())
                (call,) = one.calls
                await stack.enter_async_context(two.reading())
                async with three.reading():
                    await trio.sleep(MOMENT)
            await trio.sleep(10 * TERMS.lease)
            assert call.is_open
            left_at = trio.current_time()
        await trio.sleep(MOMENT)

        assert not call.is_open
        assert call.exits[0].at - left_at < MOMENT


async def test_the_last_reader_of_the_owner_ends_the_call_at_once_if_nobody_else_reads(
    autojump_clock: MockClock,
) -> None:
    async with open_members(FakeBroker(), 2) as (one, _):
        async with one.reading():
            (call,) = one.calls
            await trio.sleep(1)
            left_at = trio.current_time()
        await trio.sleep(MOMENT)

        assert call.exits[0].at == left_at


async def test_a_linger_holds_it_and_is_looked_at_once_more_at_its_end(
    autojump_clock: MockClock,
) -> None:
    async with open_members(FakeBroker(), 2) as (one, two):
        async with one.reading(linger=30):
            (call,) = one.calls
            await trio.sleep(1)
        await trio.sleep(29.9)
        assert call.is_open
        async with two.reading():
            await trio.sleep(100)
            assert call.is_open
        await trio.sleep(MOMENT)
        assert not call.is_open


async def test_who_comes_while_it_is_closed_here_keeps_it(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    broker.delay = 0.1
    async with open_members(broker, 2) as (one, two):
        async with one.reading() as first:
            await trio.sleep(1)
        await trio.sleep(0.05)  # the broker is being asked
        async with one.reading() as again:
            assert again.generation is first.generation
            await trio.sleep(MOMENT)
            assert again.generation.outcome is None
            async with two.reading() as other:
                assert other.generation.id == first.generation.id


async def test_who_comes_while_it_is_closed_elsewhere_starts_another(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    broker.delay = 0.1
    async with open_members(broker, 2) as (one, two):
        async with one.reading() as first:
            await trio.sleep(1)
        await trio.sleep(0.08)
        async with two.reading() as second:
            await trio.sleep(MOMENT)
            assert second.generation.id != first.generation.id
            assert second.generation.outcome is None
            assert first.generation.outcome == cancelled("abandoned")
        assert not one.calls[0].is_open


async def test_who_comes_as_the_last_one_leaves_keeps_its_node_interested(
    autojump_clock: MockClock,
) -> None:
    async with open_members(FakeBroker(), 2) as (one, two), trio.open_nursery() as nursery:
        reading = Reading()
        async with AsyncExitStack() as stack:
            async with one.reading():
                (call,) = one.calls
                await stack.enter_async_context(two.reading())
            async with two.node.turn(REQUEST):
                nursery.start_soon(follow, two, reading)
                await wait_all_tasks_blocked()
                await stack.aclose()
                await wait_all_tasks_blocked()
        await trio.sleep(MOMENT)
        assert call.is_open
        call.complete(b"one")

    assert (reading.data, reading.end) == ([b"one", b"[DONE]"], COMPLETED)


async def test_what_is_given_back_while_others_come_is_begun_by_them(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    broker.delay = 0.1
    async with open_members(broker, 2) as (one, two), trio.open_nursery() as nursery:
        nursery.start_soon(give_back, one)
        await trio.sleep(0.05)
        async with two.reading() as reader:  # it was told that it runs at the other node
            two.calls[0].complete(b"text")
            reading = await read_to_end(reader)

    assert (reading.data, reading.end) == ([b"text", b"[DONE]"], COMPLETED)


async def give_back(member: Member) -> None:
    """Be elected, and begin nothing."""
    async with member.node.turn(REQUEST), member.node.place(REQUEST, b"about"):
        await trio.lowlevel.checkpoint()


async def test_a_stop_at_any_node_is_told_to_all(autojump_clock: MockClock) -> None:
    async with open_members(FakeBroker()) as members:
        one, two, three = members
        async with one.reading() as first, two.reading() as second, three.reading() as third:
            one.calls[0].arrive(b"text")
            await trio.sleep(MOMENT)

            two.node.stop(second.generation)

            readings = [await read_to_end(reader) for reader in (first, second, third)]
        assert [reading.end for reading in readings] == [cancelled("stopped")] * 3
        assert not one.calls[0].is_open


async def test_a_failure_is_told_with_its_error(autojump_clock: MockClock) -> None:
    async with (
        open_members(FakeBroker(), 2) as (one, two),
        one.reading() as first,
        two.reading() as second,
    ):
        one.calls[0].fail(ValueError("a crash"))
        await trio.sleep(MOMENT)

        for reader in (first, second):
            assert (await read_to_end(reader)).end == failed("internal")


async def test_a_call_that_cannot_be_made_is_told_with_its_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse() -> None:
        await trio.sleep(1)
        raise SourceFailed("refused", "the engine is busy")

    async with open_members(FakeBroker(), 2) as (one, two):
        one.entering = refuse
        async with one.reading(), two.reading() as second:
            reading = await read_to_end(second)

    assert reading.end == failed("elsewhere")
    assert (
        str(second.generation.outcome and second.generation.outcome.error) == "the engine is busy"
    )
    assert "crashed" not in caplog.text


async def test_a_stop_before_the_engine_has_answered_is_told_to_all(
    autojump_clock: MockClock,
) -> None:
    async with open_members(FakeBroker(), 2) as (one, two):
        one.entering = trio.sleep_forever
        async with one.reading() as first, two.reading() as second:
            await trio.sleep(MOMENT)
            one.node.stop(first.generation)

            assert (await read_to_end(second)).end == cancelled("stopped")


async def test_what_has_ended_is_read_at_other_nodes_by_its_id(autojump_clock: MockClock) -> None:
    async with open_members(FakeBroker()) as (one, two, three):
        async with one.reading() as first:
            one.calls[0].complete(b"text")
            await read_to_end(first)
        await trio.sleep(100)

        for member in (two, three):
            async with member.reading_by_id(first.generation.id) as reader:
                reading = await read_to_end(reader)
            assert (reading.data, reading.end) == ([b"text", b"[DONE]"], COMPLETED)


async def test_after_the_end_a_request_starts_afresh(autojump_clock: MockClock) -> None:
    async with (
        open_members(FakeBroker(), 2) as (one, two),
        one.reading() as first,
        two.reading() as second,
    ):
        one.calls[0].complete()
        await read_to_end(first)
        await read_to_end(second)
        async with two.reading() as again:
            assert again.generation.id != first.generation.id
            assert len(two.calls) == 1


async def test_nothing_is_left_when_all_have_left(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker) as members:
        with TaskCensus() as census:
            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(stay, members[number % 3], 1 + number * 0.1)
            await trio.sleep(MOMENT)
            await census.settled()
        assert all(not call.is_open for member in members for call in member.calls)
        assert sum(len(member.calls) for member in members) == 1
        assert not any(member.node.hub.running for member in members)
        await trio.sleep(700)
        left = broker.memory.seconds_left()
        assert {name for name in left if ":n:" not in name} == {"tp:{0}:epoch", "tp:{0}:nodes"}


async def follow(member: Member, reading: Reading) -> None:
    async with member.reading() as subscriber:
        await reading.follow(subscriber)


async def stay(member: Member, seconds: float) -> None:
    async with member.reading():
        await trio.sleep(seconds)


async def test_who_comes_before_it_has_begun_reads_it(autojump_clock: MockClock) -> None:
    async with open_members(FakeBroker(), 2) as (one, two), trio.open_nursery() as nursery:
        reading, source = Reading(), ScriptedSource(head=b"head")
        async with AsyncExitStack() as stack:
            async with one.node.turn(REQUEST), one.node.place(REQUEST, b"about") as placed:
                nursery.start_soon(follow, two, reading)
                await trio.sleep(MOMENT)
                identity = Identity(placed.ref.public_id, notice=NOTICE)
                stack.enter_context(one.node.hub.join(REQUEST, source, identity=identity))
            source.arrive(b"text")
            await trio.sleep(MOMENT)

            assert reading.data == [b"text"]
            source.complete()


async def test_nothing_is_told_before_the_head(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_members(FakeBroker(), 2) as (one, two):
        (broker,) = one.node.brokers
        tell_head, may_tell = broker.open, trio.Event()

        async def tell_head_late(lease: Lease, head: bytes) -> None:
            await may_tell.wait()
            await tell_head(lease, head)

        monkeypatch.setattr(broker, "open", tell_head_late)
        async with one.reading(), two.reading() as subscriber:
            await trio.sleep(MOMENT)
            one.calls[0].arrive(b"text", DONE)
            await trio.sleep(MOMENT)
            may_tell.set()
            reading = Reading()
            await reading.follow(subscriber)

        assert subscriber.generation.head == b"head"
        assert reading.data == [b"text", DONE.data]


@pytest.mark.parametrize("why", [ValueError("no room"), None])
async def test_who_comes_before_it_has_not_begun_is_told_so(
    autojump_clock: MockClock, why: Exception | None
) -> None:
    async with open_members(FakeBroker(), 2) as (one, two), trio.open_nursery() as nursery:
        reading = Reading()
        with suppress(ValueError):
            async with one.node.turn(REQUEST), one.node.place(REQUEST, b"about"):
                nursery.start_soon(follow, two, reading)
                await trio.sleep(MOMENT)
                if why is not None:
                    raise why
        await trio.sleep(MOMENT)

        assert isinstance(reading.end, Outcome)
        assert reading.end.reason == ("elsewhere" if why else "owner_lost")
        assert str(reading.end.error).startswith(
            "no room" if why else "the node that made the call"
        )
