"""What all nodes may have together: how often one asks, and how much runs. On each broker."""

from __future__ import annotations

import pytest
import trio

from tests.cluster.brokers import LONG, SHORT, Shared
from trioproxy.cluster import Account, Broker, BrokerFull, Pace, Spent, Terms

ASKED = Account("alice", "requests")
RUN = Account("alice", "generations")
OTHERS = Account("bob", "requests")

WINDOW = Pace(3)
BUCKET = Pace(60, burst=3)
QUICK = Pace(6000, burst=2)
"""Another one flows in each hundredth of a second."""


@pytest.mark.parametrize("pace", [WINDOW, BUCKET])
async def test_so_many_are_let_in_at_all_nodes_together(shared: Shared, pace: Pace) -> None:
    ports = [await shared.port("one"), await shared.port("two")]

    spent = [await ports[number % 2].spend(ASKED, pace) for number in range(5)]

    assert [each.is_let_in for each in spent] == [True, True, True, False, False]
    assert [each.remaining for each in spent] == [2, 1, 0, 0, 0]
    assert {each.limit for each in spent} == {3}
    assert spent[0].retry_after == spent[1].retry_after == 0
    assert (await ports[0].spend(OTHERS, pace)).remaining == 2


@pytest.mark.parametrize("pace", [WINDOW, BUCKET])
async def test_of_many_who_ask_at_once_so_many_are_let_in(shared: Shared, pace: Pace) -> None:
    ports = [await shared.port(f"node {number}") for number in range(4)]
    spent: list[Spent] = []

    async def ask(port: Broker) -> None:
        spent.append(await port.spend(ASKED, pace))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(ask, ports[number % 4])

    assert sum(each.is_let_in for each in spent) == 3


async def test_it_is_told_when_there_is_room(shared: Shared) -> None:
    one = await shared.port("one")
    windows = [await one.spend(ASKED, WINDOW) for _ in range(4)]
    buckets = [await one.spend(ASKED, BUCKET) for _ in range(4)]

    assert 55 < windows[3].retry_after <= 60
    assert 55 < windows[3].reset <= 60
    assert 0.5 < buckets[3].retry_after <= 1.001
    assert 2.5 < buckets[3].reset <= 3


async def test_what_was_taken_from_a_bucket_flows_back(shared: Shared) -> None:
    one = await shared.port("one")
    while (spent := await one.spend(ASKED, QUICK)).is_let_in:
        pass

    await shared.pass_time(spent.retry_after)

    assert (await one.spend(ASKED, QUICK)).is_let_in


@pytest.mark.parametrize("pace", [WINDOW, BUCKET])
async def test_what_is_given_back_is_not_counted(shared: Shared, pace: Pace) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    first, *_ = [await one.spend(ASKED, pace) for _ in range(3)]

    await two.give_back(ASKED, pace, first)
    again = [(await two.spend(ASKED, pace)).is_let_in for _ in range(2)]

    assert again == [True, False]


@pytest.mark.parametrize("pace", [WINDOW, BUCKET])
async def test_all_that_is_given_back_leaves_nothing(shared: Shared, pace: Pace) -> None:
    one = await shared.port("one")
    spent = [await one.spend(ASKED, pace) for _ in range(3)]
    for each in spent:
        await one.give_back(ASKED, pace, each)
        await one.give_back(ASKED, pace, each)

    assert await shared.seconds_left() == {}
    assert (await one.spend(ASKED, pace)).remaining == 2


async def test_all_that_is_counted_runs_out(shared: Shared) -> None:
    one = await shared.port("one")
    await one.spend(ASKED, WINDOW)
    await one.spend(ASKED, BUCKET)
    await one.hold(RUN, 1, 3)

    left = {name.rpartition(":")[2]: time for name, time in (await shared.seconds_left()).items()}

    assert left.keys() == {"window", "bucket", "pool"}
    assert 55 < left["window"] <= 60
    assert 0 < left["bucket"] <= 1
    assert 55 < left["pool"] <= LONG.ttl


async def test_a_rate_that_has_changed_asks_the_same_count(shared: Shared) -> None:
    one = await shared.port("one")
    for _ in range(3):
        await one.spend(ASKED, WINDOW)

    assert (await one.spend(ASKED, Pace(5))).remaining == 1
    less = await one.spend(ASKED, Pace(2))
    assert (less.is_let_in, less.remaining) == (False, 0)
    assert 55 < less.retry_after <= 60


# -- holding ---------------------------------------------------------------------------------------


async def test_all_nodes_together_hold_so_many(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")

    assert await one.hold(RUN, 1, 3) == 1
    assert await one.hold(RUN, 2, 3) == 2
    assert await two.hold(RUN, 2, 3) == 1
    assert await one.hold(RUN, 7, 3) == 2
    assert await two.hold(Account("bob", "generations"), 3, 3) == 3


async def test_to_hold_so_many_again_is_the_same(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")

    assert [await one.hold(RUN, 2, 3) for _ in range(3)] == [2] * 3
    assert [await two.hold(RUN, 2, 3) for _ in range(3)] == [1] * 3


async def test_where_there_is_no_room_a_node_has_what_it_had(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    await one.hold(RUN, 3, 3)

    assert await two.hold(RUN, 1, 3) == 0
    assert await one.hold(RUN, 4, 2) == 3
    assert await two.keep_holding(RUN, 0) == 3


async def test_what_is_told_is_so_whatever_others_have(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    await one.hold(RUN, 3, 3)

    assert await two.keep_holding(RUN, 2) == 3
    assert await one.keep_holding(RUN, 0) == 2
    assert await one.hold(RUN, 2, 3) == 1
    assert await two.keep_holding(RUN, 0) == 1
    assert await one.keep_holding(RUN, 0) == 0
    assert await shared.seconds_left() == {}


async def test_what_a_node_that_is_gone_held_is_free_after_a_lease(shared: Shared) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    await one.hold(RUN, 3, 3)
    assert await two.hold(RUN, 1, 3) == 0

    await shared.pass_time(SHORT.lease + 0.05)

    assert await two.hold(RUN, 3, 3) == 3
    assert await one.keep_holding(RUN, 1) == 3  # it was not gone: what is so is told


async def test_what_is_kept_is_not_free(shared: Shared) -> None:
    one, two = await shared.port("one", Terms(lease=1.0)), await shared.port("two")
    await one.hold(RUN, 3, 3)
    for _ in range(3):
        await shared.pass_time(0.5)
        await one.keep_holding(RUN, 3)

    assert await two.hold(RUN, 1, 3) == 0


async def test_without_memory_what_is_held_is_kept_and_nothing_more_is(shared: Shared) -> None:
    one = await shared.port("one")
    await one.hold(RUN, 1, 3)
    await shared.fill()

    with pytest.raises(BrokerFull):
        await one.hold(RUN, 2, 3)
    with pytest.raises(BrokerFull):
        await one.spend(ASKED, WINDOW)
    assert await one.keep_holding(RUN, 1) == 0
    assert await one.keep_holding(RUN, 0) == 0
