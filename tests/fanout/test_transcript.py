"""The log of a generation: what it keeps, what it hands out, and that its accounts are right."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioproxy.fanout import Event, Gap, Transcript, TranscriptFull, WhenFull
from trioproxy.fanout.transcript import MAX_BATCH_BYTES, OVERHEAD_BYTES, Budget

KILOBYTE = b"x" * (1_000 - OVERHEAD_BYTES)


def nothing_retained() -> bool:
    return False


def unbounded() -> Budget:
    return Budget(2**63, nothing_retained)


def make(
    *messages: bytes,
    max_bytes: int = 2**63,
    budget: Budget | None = None,
    when_full: WhenFull = "trim",
) -> Transcript:
    transcript = Transcript(
        "gen_1", max_bytes=max_bytes, budget=budget or unbounded(), when_full=when_full
    )
    for message in messages:
        transcript.append(None, message)
    return transcript


def held(transcript: Transcript) -> list[Event]:
    events: list[Event] = []
    cursor = transcript.first - 1
    while batch := transcript.read(cursor):
        events.extend(batch.events)
        cursor = events[-1].seq
    return events


def frame(generation_id: str, event: Event) -> bytes:
    return b"%s:%d:%s" % (generation_id.encode(), event.seq, event.data)


def other_frame(generation_id: str, event: Event) -> bytes:
    return b"?" + event.data


def cost_of(event: Event, *, is_rendered: bool) -> int:
    return OVERHEAD_BYTES + len(event.data) + is_rendered * len(frame("gen_1", event))


# -- appending and reading -------------------------------------------------------------------------


def test_events_are_numbered_from_one_and_know_their_place_in_the_bytes() -> None:
    transcript = make()
    transcript.append(b"ping", b"")
    transcript.append(None, b"abc")
    transcript.append(None, b"de")

    events = held(transcript)

    assert [(event.seq, event.position) for event in events] == [(1, 0), (2, 3), (3, 5)]
    assert [(event.name, event.data) for event in events] == [
        (b"ping", b""),
        (None, b"abc"),
        (None, b"de"),
    ]
    assert (transcript.first, transcript.last, transcript.position) == (1, 3, 5)


def test_an_empty_transcript_has_nothing_to_read() -> None:
    transcript = make()

    assert (transcript.first, transcript.last) == (1, 0)
    assert transcript.read(0) is None


@pytest.mark.parametrize(("cursor", "expected"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (3, None)])
def test_reading_begins_after_the_cursor(cursor: int, expected: list[int] | None) -> None:
    batch = make(b"a", b"b", b"c").read(cursor)

    assert expected == (batch and [event.seq for event in batch.events])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([MAX_BATCH_BYTES, 1], [1, 1]),
        ([MAX_BATCH_BYTES - 1, 1, 1], [2, 1]),
        ([MAX_BATCH_BYTES // 2] * 5, [2, 2, 1]),
        ([MAX_BATCH_BYTES // 2 + 1] * 3, [1, 1, 1]),
        ([MAX_BATCH_BYTES * 3, 1, 1], [1, 2]),
        ([1, MAX_BATCH_BYTES * 3, 1], [1, 1, 1]),
        ([0, 0, MAX_BATCH_BYTES, 0, 0], [5]),
        ([1] * 1_000, [1_000]),
    ],
)
def test_a_batch_holds_64_kib_or_one_larger_event(sizes: list[int], expected: list[int]) -> None:
    transcript = make(*[b"x" * size for size in sizes])
    lengths: list[int] = []
    cursor = 0
    while batch := transcript.read(cursor):
        lengths.append(len(batch.events))
        cursor = batch.events[-1].seq

    assert expected == lengths


# -- the bound -------------------------------------------------------------------------------------


def test_a_full_transcript_drops_as_much_of_its_head_as_it_must() -> None:
    transcript = make(*[KILOBYTE] * 5, max_bytes=5_000)

    transcript.append(None, b"x" * (2_500 - OVERHEAD_BYTES))

    assert [event.seq for event in held(transcript)] == [4, 5, 6]
    assert transcript.held_bytes == 4_500


def test_names_count_in_the_bound() -> None:
    transcript = make(max_bytes=2_000)
    transcript.append(b"a name", KILOBYTE)
    transcript.append(None, KILOBYTE)

    assert [event.seq for event in held(transcript)] == [2]


@pytest.mark.parametrize(
    ("cursor", "expected"), [(0, Gap(1, 3)), (2, Gap(3, 3)), (3, None), (4, None)]
)
def test_what_was_dropped_is_a_gap_for_who_still_needed_it(
    cursor: int, expected: Gap | None
) -> None:
    batch = make(*[KILOBYTE] * 5, max_bytes=2_000).read(cursor)

    assert batch is not None
    assert expected == batch.gap
    assert [event.seq for event in batch.events] == ([5] if cursor == 4 else [4, 5])


def test_a_transcript_that_must_be_whole_refuses_and_stays_as_it_was() -> None:
    transcript = make(KILOBYTE, KILOBYTE, max_bytes=2_500, when_full="fail")

    with pytest.raises(TranscriptFull) as refused:
        transcript.append(None, KILOBYTE)

    assert refused.value.reason == "too_large"
    assert [event.seq for event in held(transcript)] == [1, 2]
    assert (transcript.last, transcript.held_bytes) == (2, 2_000)


def test_a_transcript_that_must_be_whole_may_be_filled_to_the_last_byte() -> None:
    transcript = make(KILOBYTE, KILOBYTE, max_bytes=2_000, when_full="fail")

    assert transcript.held_bytes == 2_000


def test_a_cleared_transcript_is_one_gap_and_never_uses_a_seq_again() -> None:
    transcript = make(b"a", b"b", b"c")

    transcript.clear()
    batch = transcript.read(1)
    transcript.append(None, b"d")

    assert batch is not None
    assert (batch.gap, batch.events) == (Gap(2, 3), [])
    assert [event.seq for event in held(transcript)] == [4]
    assert transcript.position == 4


def test_skipping_hands_out_nothing_but_the_gap() -> None:
    batch = make(b"a", b"b", b"c").skip(1)

    assert (batch.gap, batch.events) == (Gap(2, 3), [])


# -- frames ----------------------------------------------------------------------------------------


def test_a_batch_is_rendered_in_order_with_the_generations_id() -> None:
    batch = make(b"a", b"b").read(0)

    assert batch is not None
    assert batch.render(frame) == b"gen_1:1:agen_1:2:b"


def test_a_batch_without_events_renders_to_nothing() -> None:
    assert make(b"a").skip(0).render(frame) == b""


def test_each_format_has_a_frame_of_its_own_and_all_count() -> None:
    transcript = make(b"abc")
    (event,) = held(transcript)
    before = transcript.held_bytes

    frames = [transcript.frame(event, render) for render in (frame, other_frame, frame)]

    assert frames == [b"gen_1:1:abc", b"?abc", b"gen_1:1:abc"]
    assert transcript.held_bytes == before + len(b"gen_1:1:abc") + len(b"?abc")


def test_rendering_drops_the_head_when_it_passes_the_bound() -> None:
    transcript = make(KILOBYTE, KILOBYTE, max_bytes=2_500)

    for event in held(transcript):
        transcript.frame(event, frame)

    assert [event.seq for event in held(transcript)] == [2]
    assert transcript.held_bytes == 1_000 + len(frame("gen_1", transcript.events[0]))


def test_a_transcript_that_must_be_whole_loses_nothing_to_rendering() -> None:
    transcript = make(KILOBYTE, KILOBYTE, max_bytes=2_500, when_full="fail")

    for event in held(transcript):
        transcript.frame(event, frame)

    assert [event.seq for event in held(transcript)] == [1, 2]


def test_a_frame_of_what_was_dropped_is_not_accounted_for() -> None:
    budget = unbounded()
    transcript = make(KILOBYTE, budget=budget)
    (event,) = held(transcript)
    transcript.clear()

    assert transcript.frame(event, other_frame) == b"?" + KILOBYTE
    assert (transcript.held_bytes, budget.used) == (0, 0)


def test_what_is_held_takes_the_memory_that_it_is_counted_for() -> None:
    def render(generation_id: str, event: Event) -> bytes:
        return b"data: %b\nid: %b:%d\n\n" % (event.data, generation_id.encode(), event.seq)

    transcript = make()
    tracemalloc.start()
    try:
        for number in range(10_000):
            transcript.append(None, b"%0100d" % number)
            batch = transcript.read(number)
            assert batch is not None
            batch.render(render)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.8 < held_bytes / transcript.held_bytes < 1.2


def test_what_is_held_is_nothing_to_the_garbage_collector() -> None:
    transcript = make(*(b"%d" % number for number in range(10_000)))
    for event in held(transcript):
        transcript.frame(event, frame)
    gc.collect()

    before = len(gc.get_objects())
    transcript.clear()

    assert len(gc.get_objects()) > before - 100


# -- the memory that all share ---------------------------------------------------------------------


def test_a_budget_reclaims_until_it_fits_and_no_further() -> None:
    def reclaim() -> bool:
        if retained:
            retained.pop(0).clear()
            return True
        return False

    retained: list[Transcript] = []
    budget = Budget(3_000, reclaim)
    retained += [make(KILOBYTE, budget=budget) for _ in range(3)]
    live = make(budget=budget)

    left: list[int] = []
    for _ in range(4):
        live.append(None, KILOBYTE)
        left.append(len(retained))

    assert left == [2, 1, 0, 0]
    assert (budget.used, live.first) == (3_000, 2)


OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 1), st.integers(0, 2_000)),
    st.tuples(st.just("render"), st.integers(0, 1), st.integers(0, 20)),
    st.tuples(st.just("clear"), st.integers(0, 1), st.just(0)),
)


@settings(deadline=None)
@given(st.lists(OPERATIONS, max_size=40), st.sampled_from([3_000, 2**63]))
def test_the_accounts_are_right_whatever_happens(
    operations: list[tuple[str, int, int]], max_bytes: int
) -> None:
    budget = Budget(5_000, nothing_retained)
    transcripts = [
        make(max_bytes=max_bytes, budget=budget),
        make(max_bytes=4_000, budget=budget),
    ]
    rendered: list[set[int]] = [set(), set()]

    for operation, which, size in operations:
        transcript = transcripts[which]
        events = held(transcript)
        match operation:
            case "append":
                transcript.append(None, b"x" * size)
            case "render" if events:
                event = events[size % len(events)]
                transcript.frame(event, frame)
                rendered[which].add(event.seq)
            case _:
                transcript.clear()

        costs = [
            sum(cost_of(event, is_rendered=event.seq in seqs) for event in held(each))
            for each, seqs in zip(transcripts, rendered, strict=True)
        ]
        assert costs == [each.held_bytes for each in transcripts]
        assert sum(costs) == budget.used
        for each in transcripts:
            newest_alone = len(held(each)) <= 1
            assert newest_alone or each.held_bytes <= each.max_bytes
        if operation == "append":
            assert len(held(transcript)) == 1 or budget.holds()
