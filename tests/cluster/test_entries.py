"""How events are packed, and how a cursor follows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.brokers import batch
from trioproxy.cluster import START, Batch, Cursor, Ending, Head, batches
from trioproxy.cluster.entries import BATCH_BYTES, Entry, follow, pack_batch, pack_outcome
from trioproxy.fanout import COMPLETED
from trioproxy.fanout.event import Gap
from trioproxy.fanout.outcome import Outcome, failed
from trioproxy.wire import Message

MESSAGES = st.lists(st.builds(Message, st.none() | st.binary(max_size=9), st.binary(max_size=99)))


def entry(of: Batch, fence: int = 1) -> Entry:
    return Entry(fence, of.last, {b"e": pack_batch(of)})


@given(MESSAGES.filter(bool), st.integers(1, 2**50))
def test_a_batch_is_unpacked_as_it_was(messages: list[Message], first: int) -> None:
    packed = Batch(first, messages)

    cursor, parts = follow(Cursor(1, first - 1), [entry(packed)])

    assert (cursor, parts) == (Cursor(1, packed.last), [packed])


@given(st.lists(st.integers(0, 3 * BATCH_BYTES), max_size=12), st.integers(1, 1000))
def test_batches_are_dense_and_bounded(sizes: list[int], first: int) -> None:
    messages = [Message(None, b"x" * size) for size in sizes]

    split = list(batches(first, messages))

    assert [message for one in split for message in one.messages] == messages
    seq = first
    for one in split:
        assert one.first == seq
        assert one.messages
        size = sum(len(message.data) for message in one.messages)
        assert size <= BATCH_BYTES or len(one.messages) == 1
        seq = one.last + 1


@given(st.data())
def test_a_log_of_overlapping_batches_is_followed_without_a_seam(data: st.DataObject) -> None:
    ends = sorted(data.draw(st.sets(st.integers(1, 60), min_size=1)))
    log: list[Entry] = []
    last = 0
    for end in ends:
        log.append(entry(batch(data.draw(st.integers(1, last + 1)), end)))
        last = end
    place = Cursor(1, data.draw(st.integers(0, last)))

    _, parts = follow(place, [one for one in log if one.seq > place.seq])

    seqs = [
        n for part in parts if isinstance(part, Batch) for n in range(part.first, part.last + 1)
    ]
    assert seqs == list(range(place.seq + 1, last + 1))
    assert not any(isinstance(part, Gap) for part in parts)


def test_what_is_missing_before_a_batch_and_before_the_end_is_told() -> None:
    log = [entry(batch(4, 5)), Entry(2, 9, {b"o": pack_outcome(COMPLETED)})]

    cursor, parts = follow(START, log)

    assert cursor == Cursor(2, 9)
    assert parts == [Gap(1, 3), batch(4, 5), Gap(6, 8), Ending(8, COMPLETED)]


def test_nothing_is_read_past_the_end() -> None:
    log = [Entry(1, 1, {b"o": pack_outcome(COMPLETED)}), entry(batch(2, 3), fence=2)]

    assert follow(START, log) == (Cursor(1, 1), [Ending(0, COMPLETED)])


def test_a_head_is_at_the_beginning() -> None:
    assert follow(START, [Entry(1, 0, {b"h": b"\0"})]) == (Cursor(1, 0), [Head(b"\0")])


@pytest.mark.parametrize("told", [True, False])
def test_an_outcome_keeps_whether_it_was_told(told: bool) -> None:
    outcome = failed("upstream", RuntimeError("stays"), told=told)

    _, (ending,) = follow(START, [Entry(1, 1, {b"o": pack_outcome(outcome, b"why")})])

    assert isinstance(ending, Ending)
    assert ending == Ending(0, Outcome("failed", "upstream"), b"why")
    assert ending.outcome.told is told
    assert ending.outcome.error is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"x": b"y"},
        {b"e": b""},
        {b"e": b"\xc1"},
        {b"e": b"\x90"},  # no events
        {b"e": pack_batch(batch(1, 9))},  # more than there can have been
        {b"e": b"\x91\x91\x01"},
        {b"o": b"\x90"},
        {b"o": b"\x94\xa5dance\xc0\xc2\xc4\x00"},
    ],
)
def test_what_cannot_be_read_ends_the_log(fields: dict[bytes, bytes]) -> None:
    log = [entry(batch(1, 2)), Entry(1, 5, fields), entry(batch(6, 7))]

    assert follow(START, log) == (Cursor(1, 5), [batch(1, 2), Ending(2, failed("unreadable"))])
