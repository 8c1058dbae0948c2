"""Who is interested in a generation, and what it is told. On each broker."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

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
    MAIL_START,
    START,
    Batch,
    Cursor,
    Ending,
    EntryTooLarge,
    Head,
    InterestLost,
    Joined,
    Known,
    Lease,
    Letter,
    LogBehind,
    NotRunning,
    Ref,
    Running,
    Terms,
    entries,
)
from trioproxy.fanout import COMPLETED
from trioproxy.fanout.event import Gap
from trioproxy.wire import Message

OTHER = Ref(REF.request, "gen_2")
FEW = Terms(lease=30, max_entries=10)
WITHIN = 10.0


# -- interest --------------------------------------------------------------------------------------


async def test_the_first_that_is_interested_wakes_the_owner(shared: Shared) -> None:
    one, two, three = [await shared.port(node) for node in ("one", "two", "three")]
    await own(one)

    joined = await two.join(REF)
    await three.join(REF)
    await two.join(REF)

    assert joined == Joined("one", 1, joined.lease_left, 0, None, b"about")
    assert 25 < joined.lease_left <= 30
    news = await one.read({}, MAIL_START, wait=0)
    assert news.letters == [Letter("wake", REF, "two")]


async def test_the_last_that_leaves_tells_the_owner(shared: Shared) -> None:
    one, two, three = [await shared.port(node) for node in ("one", "two", "three")]
    await own(one)
    await two.join(REF)
    await three.join(REF)

    await two.leave(REF)
    assert await words(one) == ["wake"]
    await three.leave(REF)
    await three.leave(REF)

    news = await one.read({}, MAIL_START, wait=0)
    assert news.letters[1:] == [Letter("leave", REF, "three")]


async def test_who_never_came_can_leave(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    await two.leave(REF)
    await own(one)

    await two.leave(REF)

    assert await words(one) == []


async def test_a_renewal_tells_how_many_are_interested(shared: Shared) -> None:
    one, two, three = [await shared.port(node) for node in ("one", "two", "three")]
    lease = await own(one)
    counts = [await renew(one, lease)]
    await two.join(REF)
    counts.append(await renew(one, lease))
    await three.join(REF)
    counts.append(await renew(one, lease))
    await two.leave(REF)
    counts.append(await renew(one, lease))

    assert counts == [0, 1, 2, 1]


async def test_an_interest_that_is_not_kept_runs_out(shared: Shared) -> None:
    one, two = await shared.port("one", LONG), await shared.port("two", SHORT)
    lease = await own(one)
    await two.join(REF)
    assert await renew(one, lease) == 1
    await shared.pass_time(0.3)

    with pytest.raises(InterestLost):
        await keep_interest(two, REF)
    assert await renew(one, lease) == 0
    await two.join(REF)
    assert await words(one) == ["wake", "wake"]


async def test_an_interest_that_is_kept_does_not_run_out(shared: Shared) -> None:
    terms = Terms(lease=1.0)
    one, two = await shared.port("one", LONG), await shared.port("two", terms)
    lease = await own(one)
    await two.join(REF)
    for _ in range(3):
        await shared.pass_time(0.4)
        assert 20 < await keep_interest(two, REF) < 30

    assert await renew(one, lease) == 1


async def test_what_cannot_be_joined_says_why(shared: Shared) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    leases = {state: await own(one, Ref(state, "gen")) for state in ("closing", "ended", "lost")}
    assert await one.close_if_empty(leases["closing"])
    await one.finish(leases["ended"], COMPLETED, last=0)
    await shared.pass_time(0.3)
    await two.reap(leases["lost"].ref)

    for state in ("closing", "ended", "lost", "unknown"):
        for refused in (two.join, partial(keep_interest, two)):
            with pytest.raises(NotRunning) as error:
                await refused(Ref(state, "gen"))
            assert error.value.state == state


async def test_who_is_interested_keeps_a_generation_from_closing(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await two.join(REF)

    assert not await one.close_if_empty(lease)
    await two.leave(REF)
    assert await one.close_if_empty(lease)


async def test_who_comes_after_the_close_is_refused_and_elected(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    assert await one.close_if_empty(lease)

    with pytest.raises(NotRunning, match="closing"):
        await two.join(REF)
    found = await two.elect(OTHER, b"about")
    assert isinstance(found, Running)
    assert found.is_closing

    assert await one.close_if_empty(lease)
    assert await one.retire(lease)
    assert await two.elect(OTHER, b"about") == Lease(OTHER, 1)


async def test_what_was_closing_is_open_again_when_it_is_renewed(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    assert await one.close_if_empty(lease)

    assert await renew(one, lease) == 0

    assert (await two.join(REF)).node == "one"


async def test_what_was_retired_wakes_its_owner_for_who_asks_and_holds_no_request(
    shared: Shared,
) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)
    assert await one.retire(lease)
    assert (await two.look(REF)) == Known("one", "retired", b"about", 0)
    with pytest.raises(NotRunning, match="retired"):
        await two.join(REF)

    assert (await two.join(REF, revive=True)).last == 0
    assert await words(one) == ["wake"]
    assert not await one.retire(lease)
    assert await renew(one, lease) == 1
    await publish(one, lease, batch(1, 2), after=0)
    await one.finish(lease, COMPLETED, last=2)

    assert (await log_of(two))[1] == [batch(1, 2), Ending(2, COMPLETED)]
    assert (await two.look(REF)).state == "ended"
    assert await two.elect(OTHER, b"about") == Lease(OTHER, 1)


async def test_what_was_retired_and_left_again_is_published_from_its_start(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    assert await one.retire(lease)
    await two.join(REF, revive=True)
    await one.open(lease, b"head")
    await publish(one, lease, batch(1, 3), after=0)
    await two.leave(REF)
    assert await one.retire(lease)

    assert (await two.join(REF, revive=True)).head is None
    await one.open(lease, b"head")
    await publish(one, lease, batch(1, 2), after=0)

    assert (await log_of(two))[1] == [Head(b"head"), batch(1, 2)]


async def test_who_is_not_known_is_not_found(shared: Shared) -> None:
    with pytest.raises(NotRunning, match="unknown"):
        await (await shared.port("one")).look(REF)


async def test_a_close_and_a_join_at_once_do_not_both_succeed(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    results: set[frozenset[str]] = set()
    for number in range(40):
        lease = await own(one, Ref(f"{number}", "gen"))
        done: set[str] = set()

        async def close(lease: Lease, done: set[str]) -> None:
            done.add("closed" if await one.close_if_empty(lease) else "kept")

        async def join(ref: Ref, done: set[str]) -> None:
            try:
                await two.join(ref)
                done.add("joined")
            except NotRunning:
                done.add("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close, lease, done)
            nursery.start_soon(join, lease.ref, done)
        results.add(frozenset(done))

    assert results <= {frozenset({"closed", "refused"}), frozenset({"kept", "joined"})}


async def test_what_is_known_of_it_is_how_far_its_log_has_come(shared: Shared) -> None:
    one, two = await shared.port("one", SHORT), await shared.port("two")
    lost, ended = await own(one), await own(one, Ref("cd", "gen"))
    for lease in (lost, ended):
        await publish(one, lease, batch(1, 3), after=0)
    assert await two.look(REF) == Known("one", "running", b"about", 3)

    await one.finish(ended, COMPLETED, last=5)
    await shared.pass_time(0.3)
    await two.reap(REF)

    assert await two.look(ended.ref) == Known("one", "ended", b"about", 5)
    assert await two.look(REF) == Known("one", "lost", b"about", 3)


# -- its alias -------------------------------------------------------------------------------------


async def test_what_is_published_is_found_by_its_alias(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)
    assert await two.resolve("resp_1") is None

    for _ in range(2):
        await publish(one, lease, batch(4, 5), after=3, alias="resp_1")
    await publish(one, lease, batch(6, 6), after=5, alias="resp_2")

    assert await two.resolve("resp_1") == REF
    assert await two.resolve("resp_2") is None, "it has one"


async def test_an_alias_is_there_for_as_long_as_the_log(shared: Shared) -> None:
    one = await shared.port("one", Terms(lease=30, ttl=60, retention=600))

    async def left() -> dict[str, int]:
        left = await shared.seconds_left()
        return {
            name.split(":")[2]: round(left[name], -1)
            for name in left
            if ":a:" in name or name.endswith(":l")
        }

    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0, alias="resp_1")
    assert set((await left()).values()) == {60}

    await one.finish(lease, COMPLETED, last=3)
    assert set((await left()).values()) == {600}
    assert await one.resolve("resp_1") == REF


async def test_an_alias_is_held_by_renewals_and_gone_with_the_rest(shared: Shared) -> None:
    one = await shared.port("one", Terms(lease=0.5, ttl=0.5, retention=0.5))
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0, alias="resp_1")
    for _ in range(4):
        await shared.pass_time(0.2)
        await renew(one, lease)
    assert await one.resolve("resp_1") == REF

    await shared.pass_time(0.6)

    assert await one.resolve("resp_1") is None


async def test_what_was_restored_and_is_published_again_has_its_alias_again(
    shared: Shared,
) -> None:
    one = await shared.port("one")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0, alias="resp_1")
    await shared.wipe()
    await one.restore(lease, b"about", b"head", None)
    assert await one.resolve("resp_1") is None

    await publish(one, lease, batch(1, 3), after=0, alias="resp_1")

    assert await one.resolve("resp_1") == REF


# -- the log ---------------------------------------------------------------------------------------


async def test_what_is_published_is_read_as_it_was(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    binary = bytes(range(256)) + b"\r\n$-1\r\n"
    first = Batch(1, [Message(binary, binary), Message(None, b""), Message(b"", b"\xff" * 100_000)])

    await one.open(lease, binary)
    await publish(one, lease, first, after=0)
    await publish(one, lease, batch(4, 6), after=3)
    await one.finish(lease, COMPLETED, last=6)

    cursor, parts = await log_of(two)
    assert parts == [Head(binary), first, batch(4, 6), Ending(6, COMPLETED)]
    assert await log_of(two, cursor=cursor) == (cursor, [])


async def test_a_log_is_read_on_from_within_a_batch(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 10), after=0)

    for seq in range(1, 10):
        cursor, parts = await log_of(two, cursor=Cursor(1, seq))
        assert (cursor, parts) == (Cursor(1, 10), [batch(seq + 1, 10)])


async def test_what_is_published_again_is_there_once(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)

    await publish(one, lease, batch(1, 3), after=0)
    await publish(one, lease, batch(1, 5), after=0)
    await publish(one, lease, batch(2, 4), after=1)

    assert await log_of(two) == (Cursor(1, 5), [batch(1, 3), batch(4, 5)])


async def test_a_log_that_lost_its_end_is_not_written_to_past_the_hole(shared: Shared) -> None:
    one = await shared.port("one")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)

    with pytest.raises(LogBehind) as refused:
        await publish(one, lease, batch(7, 9), after=6)

    assert refused.value.last == 3
    await publish(one, lease, batch(4, 9), after=3)
    assert (await log_of(one))[1] == [batch(1, 3), batch(4, 9)]


async def test_what_the_owner_had_no_more_is_told_as_a_gap(shared: Shared) -> None:
    one = await shared.port("one")
    lease = await own(one)
    await publish(one, lease, batch(1, 3), after=0)

    await publish(one, lease, batch(7, 9), after=3)
    await one.finish(lease, COMPLETED, last=12)

    _, parts = await log_of(one)
    assert parts == [batch(1, 3), Gap(4, 6), batch(7, 9), Gap(10, 12), Ending(12, COMPLETED)]


async def test_a_head_that_was_trimmed_is_told_as_a_gap(shared: Shared) -> None:
    one, two = await shared.port("one", FEW), await shared.port("two")
    lease = await own(one)
    await publish(one, lease, batch(1, 1), after=0)
    cursor, _ = await log_of(two)
    for seq in range(2, 500):
        await publish(one, lease, batch(seq, seq, b"x" * 1000), after=seq - 1)

    for place in (START, cursor, Cursor(1, 100)):
        _, (gap, *parts) = await log_of(two, cursor=place)
        assert isinstance(gap, Gap)
        seqs = [part.first for part in parts if isinstance(part, Batch)]
        assert gap.first == place.seq + 1
        assert 400 < gap.last + 1 == seqs[0]
        assert seqs == list(range(seqs[0], 500))


async def test_a_batch_that_is_too_large_is_refused_before_it_is_sent(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MAX_ENTRY_BYTES", 1000)
    one = await shared.port("one")
    lease = await own(one)

    with pytest.raises(EntryTooLarge):
        await publish(one, lease, Batch(1, [Message(None, b"x" * 1000)]), after=0)

    assert (await log_of(one))[1] == []


async def test_the_head_is_told_once_to_who_reads_and_to_who_joins(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    assert (await two.join(REF)).head is None

    await one.open(lease, b"\0head\xff")
    await one.open(lease, b"\0head\xff")
    await publish(one, lease, batch(1, 1), after=0)

    assert (await two.join(REF)).head == b"\0head\xff"
    assert (await log_of(two))[1] == [Head(b"\0head\xff"), batch(1, 1)]


# -- reading ---------------------------------------------------------------------------------------


async def test_one_read_waits_for_all_logs_and_the_mailbox(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    leases = [await own(one, Ref(f"{number}", "gen")) for number in range(20)]
    places = dict.fromkeys([lease.ref for lease in leases], START)

    for lease in leases:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda lease=lease: publish(one, lease, batch(1, 2), after=0))
            news = await two.read(places, MAIL_START, wait=WITHIN)
        assert news.logs == {lease.ref: (Cursor(1, 2), [batch(1, 2)])}
        places[lease.ref] = Cursor(1, 2)

    letter = Letter("cancel", leases[0].ref, "one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send, "two", letter)
        news = await two.read(places, MAIL_START, wait=WITHIN)
    assert (news.letters, news.logs) == ([letter], {})


async def test_a_read_without_news_ends_in_its_time(shared: Shared) -> None:
    one = await shared.port("one")

    news = await one.read({REF: START}, MAIL_START, wait=0.05)

    assert (list(news.letters), news.mail, news.logs) == ([], MAIL_START, {})


async def test_letters_come_in_order_and_once(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    sent = [Letter("cancel", Ref(f"{number}", "gen"), "two") for number in range(300)]
    for letter in sent:
        await two.send("one", letter)

    came: list[Letter] = []
    mail = MAIL_START
    while news := await one.read({}, mail, wait=0):
        if not news.letters:
            break
        came += news.letters
        mail = news.mail

    assert came == sent


async def test_a_reader_that_is_cancelled_while_it_waits_loses_no_place(shared: Shared) -> None:
    one, two = await shared.port("one"), await shared.port("two")
    lease = await own(one)
    cursor, mail = START, MAIL_START
    came: list[bytes] = []

    for seq in range(1, 201):
        with trio.move_on_after(0.001 * (seq % 5)):
            await two.read({REF: cursor}, mail, wait=WITHIN)
        await publish(one, lease, batch(seq, seq), after=seq - 1)
        if seq % 3 == 0:
            with trio.fail_after(WITHIN):
                while cursor.seq < seq:
                    news = await two.read({REF: cursor}, mail, wait=WITHIN)
                    mail = news.mail
                    cursor, parts = news.logs.get(REF, (cursor, []))
                    for part in parts:
                        assert isinstance(part, Batch)
                        came += [message.data for message in part.messages]

    assert came == [b"event %d" % seq for seq in range(1, 199)]


async def test_a_reader_that_is_cancelled_gets_no_letter_of_that(shared: Shared) -> None:
    one = await shared.port("one")
    with trio.move_on_after(0.02):
        await one.read({}, MAIL_START, wait=WITHIN)

    assert not (await one.read({}, MAIL_START, wait=0)).letters


async def test_one_task_reads_at_a_time(shared: Shared) -> None:
    one = await shared.port("one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: one.read({}, MAIL_START, wait=WITHIN))
        await trio.testing.wait_all_tasks_blocked(0.01)

        with pytest.raises(trio.BusyResourceError):
            await one.read({}, MAIL_START, wait=WITHIN)

        nursery.cancel_scope.cancel()
