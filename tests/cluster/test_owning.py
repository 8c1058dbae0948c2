"""Who owns a generation: election, lease, end. On each broker."""

from __future__ import annotations

import pytest
import trio

from tests.cluster.brokers import (
    LONG,
    REF,
    SHORT,
    Shared,
    batch,
    keep_interest,
    log_of,
    own,
    publish,
    renew,
    words,
)
from trioproxy.cluster import (
    OWNER_LOST,
    START,
    BrokerDown,
    BrokerFull,
    Ending,
    Fenced,
    Lease,
    NotRunning,
    Ref,
    Running,
    Terms,
)
from trioproxy.fanout import COMPLETED
from trioproxy.fanout.outcome import cancelled, failed

OTHER = Ref(REF.request, "gen_2")


async def test_the_first_to_be_elected_owns_and_the_second_is_told_who_does(
    shared: Shared,
) -> None:
    one, two = await shared.port("one"), await shared.port("two")

    lease = await one.elect(REF, b"about")
    found = await two.elect(OTHER, b"about")

    assert lease == Lease(REF, 1)
    assert isinstance(found, Running)
    assert (found.ref, found.node, found.fence) == (REF, "one", 1)
    assert 25 < found.lease_left <= 30


async def test_of_many_electors_at_once_one_owns(shared: Shared) -> None:
    results: list[Lease | Running] = []
    ports = [await shared.port(f"node {number}") for number in range(8)]

    async def run(number: int) -> None:
        results.append(await ports[number].elect(Ref(REF.request, f"gen_{number}"), b"about"))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(run, number)

    (lease,) = [result for result in results if isinstance(result, Lease)]
    assert {result.ref for result in results} == {lease.ref}


async def test_an_owner_that_is_elected_again_owns_as_before(shared: Shared) -> None:
    one = await shared.port("one")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)

    assert await one.elect(REF, b"about") == lease
    assert (await one.join(REF)).last == 3


async def test_an_id_is_not_given_again(shared: Shared) -> None:
    one = await shared.port("one")
    await one.finish(await own(one), COMPLETED, last=0)

    with pytest.raises(NotRunning, match="ended"):
        await one.elect(REF, b"about")


async def test_requests_are_apart(shared: Shared) -> None:
    one = await shared.port("one")
    await own(one)

    assert await one.elect(Ref("cd34", "gen_2"), b"about") == Lease(Ref("cd34", "gen_2"), 1)


async def test_who_is_elected_does_not_judge_a_lease(shared: Shared) -> None:
    await own(await shared.port("one", SHORT))
    await shared.pass_time(0.3)

    found = await (await shared.port("two")).elect(OTHER, b"about")

    assert isinstance(found, Running)
    assert found.lease_left <= 0


async def test_a_lease_that_has_run_out_is_reaped_and_every_write_of_its_owner_refused(
    shared: Shared,
) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)
    await shared.pass_time(0.3)

    assert await two.reap(REF)

    _, parts = await log_of(two)
    assert parts == [batch(1, 3), Ending(3, OWNER_LOST)]
    for write in (
        publish(one, lease, batch(4, 5), after=3),
        publish(one, lease, batch(1, 3), after=0),
        renew(one, lease),
        one.open(lease, b"head"),
        one.close_if_empty(lease),
        one.finish(lease, COMPLETED, last=3),
        one.restore(lease, b"about", None, None),
    ):
        with pytest.raises(Fenced) as refused:
            await write
        assert refused.value.fence == 2
    assert (await log_of(two))[1] == parts
    assert await two.elect(OTHER, b"about") == Lease(OTHER, 1)


async def test_a_lease_that_holds_is_not_reaped(shared: Shared) -> None:
    one = await shared.port("one")
    lease = await own(one)

    assert not await (await shared.port("two")).reap(REF)
    assert await renew(one, lease) == 0


async def test_a_late_renewal_holds_if_nobody_has_reaped(shared: Shared) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    lease = await own(one)
    await shared.pass_time(0.3)

    assert await renew(one, lease) == 0
    assert not await two.reap(REF)


async def test_a_renewal_and_a_reaper_at_once_do_not_both_succeed(shared: Shared) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    for number in range(10):
        ref = Ref(f"{number}", "gen")
        lease = await own(one, ref)
        await shared.pass_time(0.25)
        done: set[str] = set()

        async def hold(lease: Lease, done: set[str]) -> None:
            try:
                await renew(one, lease)
                done.add("renewed")
            except Fenced:
                done.add("fenced")

        async def reap(ref: Ref, done: set[str]) -> None:
            done.add("reaped" if await two.reap(ref) else "held")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, lease, done)
            nursery.start_soon(reap, ref, done)

        assert done in ({"renewed", "held"}, {"fenced", "reaped"})


async def test_reaping_twice_says_the_same_and_ends_the_log_once(shared: Shared) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    await own(one)
    await shared.pass_time(0.3)

    assert [await two.reap(REF), await two.reap(REF)] == [True, True]
    assert (await log_of(two))[1] == [Ending(0, OWNER_LOST)]


async def test_what_has_ended_or_is_unknown_is_not_reaped(shared: Shared) -> None:
    one = await shared.port("one", SHORT)
    with pytest.raises(NotRunning, match="unknown"):
        await one.reap(REF)
    await one.finish(await own(one), COMPLETED, last=0)
    await shared.pass_time(0.3)

    with pytest.raises(NotRunning, match="ended"):
        await one.reap(REF)


@pytest.mark.parametrize(
    "outcome", [COMPLETED, failed("unreachable"), cancelled("abandoned")], ids=lambda one: one.kind
)
async def test_the_end_is_told_with_its_outcome_and_the_request_is_free(
    shared: Shared, outcome: object
) -> None:
    assert isinstance(outcome, type(COMPLETED))
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 2), after=0)

    await one.finish(lease, outcome, last=2, detail=b"\0\xffwhy")

    assert (await log_of(two))[1] == [batch(1, 2), Ending(2, outcome, b"\0\xffwhy")]
    assert await two.elect(OTHER, b"about") == Lease(OTHER, 1)


async def test_finishing_twice_ends_the_log_once(shared: Shared) -> None:
    one = await shared.port("one")
    lease = await own(one)

    await one.finish(lease, COMPLETED, last=0)
    await one.finish(lease, COMPLETED, last=0)

    assert (await log_of(one))[1] == [Ending(0, COMPLETED)]


async def test_after_its_end_nothing_is_written(shared: Shared) -> None:
    one = await shared.port("one")
    lease = await own(one)
    await one.finish(lease, COMPLETED, last=0)

    for write in (
        publish(one, lease, batch(1, 1), after=0),
        renew(one, lease),
        one.open(lease, b"head"),
        one.close_if_empty(lease),
        one.restore(lease, b"about", None, None),
    ):
        with pytest.raises(NotRunning, match="ended"):
            await write
    assert (await log_of(one))[1] == [Ending(0, COMPLETED)]


async def test_the_next_generation_of_a_request_is_not_freed_by_the_end_of_the_one_before(
    shared: Shared,
) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    assert await one.retire(lease)
    await own(two, OTHER)

    await one.join(REF, revive=True)
    await one.finish(lease, cancelled("abandoned"), last=0)

    found = await one.elect(Ref(REF.request, "gen_3"), b"about")
    assert isinstance(found, Running)
    assert found.ref == OTHER


async def test_what_a_broker_has_lost_is_restored_and_read_on(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)
    cursor, _ = await log_of(two)
    await shared.wipe()
    with pytest.raises(NotRunning, match="unknown"):
        await renew(one, lease)
    with pytest.raises(NotRunning, match="unknown"):
        await keep_interest(two, REF)

    restored = await one.restore(lease, b"about", b"head", batch(1, 2))
    await publish(one, lease, batch(3, 5), after=2)

    assert restored == (2, True)
    _, parts = await log_of(two, cursor=cursor)
    assert parts == [batch(4, 5)]
    assert (await two.join(REF)).head == b"head"
    assert await words(one) == ["wake"]
    found = await two.elect(OTHER, b"about")
    assert isinstance(found, Running)
    assert found.ref == REF


async def test_what_was_not_lost_is_renewed_by_restoring_it(shared: Shared) -> None:
    one = await shared.port("one")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)

    assert await one.restore(lease, b"about", None, batch(1, 2)) == (3, True)
    assert (await log_of(one))[1] == [batch(1, 3)]


async def test_who_restores_is_told_that_another_holds_the_request_by_now(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await shared.wipe()
    await own(two, OTHER)

    assert await one.restore(lease, b"about", None, None) == (0, False)
    assert (await two.join(REF)).node == "one"


async def test_the_age_of_the_memory_is_counted_from_the_first_who_asked(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    first = await one.ping()
    await shared.pass_time(0.3)
    assert await two.ping() >= first + 0.3

    await shared.wipe()

    assert await two.ping() < 0.3


async def test_every_key_runs_out(shared: Shared) -> None:
    terms = Terms(lease=30, ttl=60, retention=600)
    one, two = await shared.port("one", terms), await shared.port("two", terms)
    refs = [Ref(f"{number}", "gen") for number in range(5)]
    leases = [await own(one, ref) for ref in refs]
    for lease in leases:
        await one.open(lease, b"head")
        await two.join(lease.ref)
        await publish(one, lease, batch(1, 3), after=0)
    await one.finish(leases[0], COMPLETED, last=3)
    await two.leave(refs[1])
    assert await one.close_if_empty(leases[1])
    await renew(one, leases[2])
    await keep_interest(two, refs[2])
    await one.ping()

    left = await shared.seconds_left()

    kinds = {"rk", "m", "s", "l", "ctl", "epoch", "nodes"}
    assert {name.rsplit(":")[-1] for name in left} == kinds
    assert all(0 < seconds <= 60 for name, seconds in left.items() if ":0:" not in name)
    assert all(590 < seconds <= 600 for name, seconds in left.items() if ":0:" in name)


async def test_what_is_restored_or_reaped_runs_out_too(shared: Shared) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    lease = await own(one)
    await one.restore(lease, b"about", None, None)
    await shared.wipe()
    await one.restore(lease, b"about", b"head", batch(1, 3))
    await two.join(REF)
    left = await shared.seconds_left()
    assert len(left) == 5
    assert all(0 < seconds <= 60 for seconds in left.values())
    await shared.pass_time(0.3)

    await two.reap(REF)

    left = await shared.seconds_left()
    assert len(left) == 3
    assert all(0 < seconds <= 600 for seconds in left.values())


async def test_what_nobody_renews_is_gone(shared: Shared) -> None:
    terms = Terms(lease=0.05, ttl=0.1, retention=0.1)
    one, two = await shared.port("one", terms), await shared.port("two", terms)
    lease = await own(one)
    await two.join(REF)
    await publish(one, lease, batch(1, 3), after=0)
    await one.finish(await own(one, Ref("cd", "gen")), COMPLETED, last=0)
    await shared.pass_time(0.2)

    assert await shared.seconds_left() == {}
    assert await log_of(two) == (START, [])


async def test_a_full_broker_takes_nothing_and_holds_what_it_has(shared: Shared) -> None:
    one, two = await shared.port("one", LONG), await shared.port("two", LONG)
    lease = await own(one)
    await two.join(REF)
    await shared.fill()

    for growth in (
        one.elect(OTHER, b"about"),
        publish(one, lease, batch(1, 3), after=0),
        one.open(lease, b"head"),
        one.finish(lease, COMPLETED, last=0),
        two.join(REF),
        two.leave(REF),
    ):
        with pytest.raises(BrokerFull) as refused:
            await growth
        assert isinstance(refused.value, BrokerDown)
    assert await renew(one, lease) == 1
    await keep_interest(two, REF)
    assert not await one.close_if_empty(lease)
