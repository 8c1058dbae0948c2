"""What a tenant may have at all nodes together: held, told and free again. In virtual time."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, ExitStack, suppress

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.nodes import TERMS, Member, open_member, open_members
from tests.support.source import ScriptedSource
from trioproxy.cluster import Account, BrokerDown, Use
from trioproxy.cluster.holding import NoRoom
from trioproxy.fanout import Generation, Share, Subscriber
from trioproxy.testing import TaskCensus, Trial, cancel_at_every_checkpoint
from trioproxy.testing.broker import FakeBroker

MOST = 3
BEAT = TERMS.lease / 4
MOMENT = 0.2
"""Seconds in which what has changed is told."""

LOOKER = "nobody"
"""A node that has nothing, and sees what the others have."""


async def begin(member: Member) -> Generation:
    account = Account("alice", "generations")
    async with member.node.holder_of("alice").hold(account, MOST, patience=0.5):
        return member.node.hub.start(None, ScriptedSource(), linger=1000, tenant="alice")


async def held(broker: FakeBroker, use: Use = "generations") -> int:
    return await broker.port(LOOKER).keep_holding(Account("alice", use), 0)


async def test_of_many_that_are_asked_for_at_once_so_many_begin(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    begun: list[Generation] = []
    refused: list[NoRoom] = []

    async def try_to(member: Member) -> None:
        try:
            begun.append(await begin(member))
        except NoRoom as error:
            refused.append(error)

    async with open_members(broker, 3) as members:
        broker.delay = 0.01
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(try_to, members[number % 3])
        assert (len(begun), len(refused)) == (MOST, 30 - MOST)

        first = begun[:]
        for generation in first:
            generation.cancel("stopped")
            await trio.sleep(MOMENT)
            await try_to(members[0])
        assert len(begun) == 2 * MOST


async def test_who_comes_while_the_broker_is_asked_is_asked_for_with_all(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    begun: list[Generation] = []

    async def begin_one(member: Member, after: float) -> None:
        await trio.sleep(after)
        account = Account("alice", "generations")
        async with member.node.holder_of("alice").hold(account, 1000, patience=0.5):
            begun.append(member.node.hub.start(None, ScriptedSource(), linger=9, tenant="alice"))

    async with open_members(broker, 1) as (one,):
        broker.delay = 0.1
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(begin_one, one, number / 1000)

        assert len(begun) == 200
        assert trio.current_time() - began_at < 0.45
        assert await held(broker) == 200


@pytest.mark.parametrize("gone", range(MOST + 1))
@pytest.mark.parametrize("at", [0.03, 0.13])
async def test_who_leaves_a_question_leaves_it_to_the_others(
    autojump_clock: MockClock, gone: int, at: float
) -> None:
    broker = FakeBroker()
    begun: list[int] = []

    async def begin_one(number: int, scope: trio.CancelScope) -> None:
        with scope, suppress(NoRoom):  # where who left had begun
            await begin(one)
            begun.append(number)

    async with open_members(broker, 1) as (one,):
        broker.delay = 0.1
        scopes = [trio.CancelScope() for _ in range(MOST + 1)]
        async with trio.open_nursery() as nursery:
            for number, scope in enumerate(scopes):
                nursery.start_soon(begin_one, number, scope)
            await trio.sleep(at)  # the first question is under way, or the second
            scopes[gone].cancel()

        assert len(begun) == MOST
        await trio.sleep(MOMENT)
        assert await held(broker) == MOST


async def test_what_begins_while_others_end_is_never_too_much(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    broker.delay = 0.01
    most = 0

    async with open_members(broker, 3) as members:

        def running() -> int:
            return sum(len(member.node.hub.running) for member in members)

        async def begin_and_end(number: int) -> None:
            nonlocal most
            await trio.sleep(number * 0.003)
            try:
                generation = await begin(members[number % 3])
            except NoRoom:
                return
            most = max(most, running())
            await trio.sleep(0.007 * (number % 5))
            generation.cancel("stopped")

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(begin_and_end, number)
        await trio.sleep(MOMENT)

        assert most == MOST
        assert await held(broker) == 0


async def test_what_a_dead_node_had_is_free_after_a_lease(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two):
        for _ in range(MOST):
            await begin(one)
        await trio.sleep(10 * TERMS.lease)
        with pytest.raises(NoRoom):
            await begin(two)
        broker.cut("node0")
        await trio.sleep(TERMS.lease - BEAT - MOMENT)
        with pytest.raises(NoRoom):
            await begin(two)
        await trio.sleep(BEAT + 2 * MOMENT)

        await begin(two)

        broker.mend("node0")  # it had not died: what runs is not ended, and counts again
        await trio.sleep(BEAT)
        assert await held(broker) == MOST + 1
        with pytest.raises(NoRoom):
            await begin(two)


async def test_a_node_that_goes_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_member(broker, "one") as one:
        await begin(one)
        assert await held(broker) == 1

    assert await held(broker) == 0


async def test_what_the_broker_has_lost_is_told_again(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two):
        for _ in range(MOST):
            await begin(one)
        broker.wipe()
        await trio.sleep(BEAT + MOMENT)

        with pytest.raises(NoRoom):
            await begin(two)


async def test_what_was_done_unheard_is_put_right(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two):
        await begin(one)
        await trio.sleep(MOMENT)
        broker.lose_replies("node0")
        with pytest.raises(BrokerDown):
            await begin(one)
        await trio.sleep(MOMENT)

        for _ in range(MOST - 1):
            await begin(two)


async def test_a_broker_that_is_silent_is_not_waited_for(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, _):
        broker.stop()
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(wait_in_vain, one)
        assert trio.current_time() - began_at == 0.5
        one.node.hub.start(None, ScriptedSource(), linger=1000, tenant="alice")
        await trio.sleep(10)
        broker.go_on()
        await trio.sleep(BEAT + MOMENT)

        assert await held(broker) == 1


async def test_who_asks_while_the_broker_is_away_is_not_remembered_for_long(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioproxy.cluster.holding.MOST_EMPTY", 10)
    broker = FakeBroker()
    async with open_members(broker, 1) as (one,):
        holder = one.node.holder_of("alice")
        await begin(one)
        broker.cut("node0")
        for number in range(100):
            account = Account(f"tenant {number}", "generations")
            with pytest.raises(BrokerDown):
                async with holder.hold(account, MOST, patience=0.5):
                    raise AssertionError("nobody has said that there is room")
            await trio.sleep(MOMENT)

        assert len(holder.all_pools()) == 10
        broker.mend("node0")
        await trio.sleep(2 * BEAT)
        assert [pool.account.tenant for pool in holder.all_pools()] == ["alice"]
        assert await held(broker) == 1


async def test_what_began_without_a_limit_counts_when_there_is_one(
    autojump_clock: MockClock,
) -> None:
    broker, share, stack = FakeBroker(), Share(math.inf, math.inf), ExitStack()
    async with open_members(broker, 2, share_of=lambda _: share) as members:
        for member in members:
            begun = member.node.hub.start(None, ScriptedSource(), linger=1000, tenant="alice")
            stack.enter_context(member.node.hub.subscribe(begun.id))
        await trio.sleep(2 * BEAT)
        assert not any(member.node.holder_of("alice").all_pools() for member in members)

        share = Share(9, 2)
        await trio.sleep(2 * BEAT)

        assert (await held(broker), await held(broker, "subscribers")) == (2, 2)
        with pytest.raises(NoRoom):
            async with (
                members[0]
                .node.holder_of("alice")
                .hold(Account("alice", "subscribers"), share.max_subscribers, patience=0.5)
            ):
                raise AssertionError("there are two already")
        stack.close()


async def wait_in_vain(member: Member) -> None:
    with pytest.raises(BrokerDown):
        await begin(member)


def test_who_is_cancelled_anywhere_holds_nothing() -> None:
    async def hold(trial: Trial) -> int:
        broker = FakeBroker()
        broker.delay = 0.1
        async with open_member(broker, "one") as one:
            with trial.target():
                (await begin(one)).cancel("stopped")
            for generation in list(one.node.hub.running):
                generation.cancel("stopped")
            await trio.sleep(1)
            return await held(broker)

    def nothing(number: int) -> None:
        assert number == 0

    assert cancel_at_every_checkpoint(hold, nothing) > 3


async def test_a_replica_is_no_generation_of_its_tenant(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with (
        open_members(broker, 2) as (one, two),
        one.reading() as first,
        two.reading() as second,
    ):
        assert second.generation.is_replica
        assert one.node.hub.shares.generations == {first.generation.tenant: 1}
        assert not two.node.hub.shares.generations


async def test_all_nodes_have_so_many_readers_of_a_tenant(autojump_clock: MockClock) -> None:
    broker = FakeBroker()

    async def join(member: Member, stack: AsyncExitStack) -> Subscriber:
        hub = member.node.hub
        (generation,) = hub.running
        async with member.node.holder_of("alice").hold(
            Account("alice", "subscribers"), MOST, patience=0.5
        ):
            return stack.enter_context(hub.subscribe(generation.id))

    async with open_members(broker, 2) as (one, two), AsyncExitStack() as stack:
        for member in (one, two):
            member.node.hub.start(None, ScriptedSource(), linger=1000, tenant="alice")
        for member in (one, two, one):
            await join(member, stack)
        with pytest.raises(NoRoom):
            await join(two, stack)
        await stack.aclose()
        await trio.sleep(MOMENT)
        for _ in range(MOST):
            await join(two, stack)


async def test_nothing_is_left_of_what_was_held(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_members(broker, 2) as (one, two):
        with TaskCensus() as census:
            generations = [await begin(member) for member in (one, two, one)]
            await trio.sleep(3 * TERMS.lease)
            for generation in generations:
                generation.cancel("stopped")
            await trio.sleep(MOMENT)
            await census.settled()

        assert not one.node.holder_of("alice").all_pools()
        assert not any(name.endswith(":pool") for name in broker.memory.seconds_left())
