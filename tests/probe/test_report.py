"""The arithmetic of the reports, exactly, from invented traces."""

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from trioproxy.probe import Arrival, Ending, Report, Trace, exit_code, measure, render, verdict


def trace(*arrivals: tuple[float, int, int], **facts: Any) -> Trace:
    """Return a trace that started at 100.0; an arrival is its time, its events and its tokens."""
    return Trace(
        **({"started": 100.0, "ended": 100.0} | facts), arrivals=[Arrival(*a) for a in arrivals]
    )


def evenly(tokens: int, *, per_read: int = 1, gap: float = 0.25) -> Report:
    """Return the report of a completed stream that brings so many tokens with every read."""
    reads = [(100.0 + gap * i, per_read, per_read) for i in range(tokens // per_read)]
    return measure(trace(*reads, status=200, ending=Ending.COMPLETED))


def test_times_count_from_the_start_of_the_request() -> None:
    report = measure(
        trace(
            (102.0, 1, 0),
            (102.5, 1, 1),
            (103.0, 2, 1),
            status=200,
            head_at=101.0,
            ended=104.0,
            bytes=77,
            ending=Ending.COMPLETED,
        )
    )

    assert report == Report(
        status=200,
        ending=Ending.COMPLETED,
        detail="",
        head=1.0,
        ttft=2.0,
        duration=4.0,
        bytes=77,
        events=4,
        tokens=2,
        rate=2.0,
        gap_p50=0.5,
        gap_p99=0.5,
        gap_max=0.5,
        reads=2,
        bunched=0.0,
        largest_burst=1,
    )


def test_a_stream_of_nothing_has_no_figures() -> None:
    report = measure(trace(ending=Ending.BROKEN, detail="why", ended=101.0))

    assert report == Report(
        status=None,
        ending=Ending.BROKEN,
        detail="why",
        head=None,
        ttft=None,
        duration=1.0,
        bytes=0,
        events=0,
        tokens=0,
        rate=None,
        gap_p50=None,
        gap_p99=None,
        gap_max=None,
        reads=0,
        bunched=0.0,
        largest_burst=0,
    )


@pytest.mark.parametrize(
    ("gaps", "p50", "p99", "longest"),
    [
        ([8.0], 8.0, 8.0, 8.0),
        ([1.0, 2.0], 1.0, 2.0, 2.0),
        ([3.0, 1.0, 2.0], 2.0, 3.0, 3.0),
        ([float(gap) for gap in range(1, 101)], 50.0, 99.0, 100.0),
        ([float(gap) for gap in range(200, 0, -1)], 100.0, 198.0, 200.0),
    ],
)
def test_percentiles_go_by_the_nearest_rank(
    gaps: list[float], p50: float, p99: float, longest: float
) -> None:
    times = [100.0]
    for gap in gaps:
        times.append(times[-1] + gap)

    report = measure(trace(*((at, 1, 1) for at in times)))

    assert (p50, p99, longest) == (report.gap_p50, report.gap_p99, report.gap_max)


def test_the_rate_counts_the_gaps_from_the_first_token_to_the_last() -> None:
    report = measure(trace((110.0, 1, 1), (110.5, 3, 3), (112.0, 1, 1)))

    assert report.rate == 2.0


def test_tokens_at_one_instant_have_no_rate() -> None:
    report = measure(trace((110.0, 5, 5)))

    assert (report.tokens, report.rate, report.gap_max) == (5, None, 0.0)


def test_a_stream_without_text_counts_every_event() -> None:
    report = measure(trace((101.0, 1, 0), (102.0, 2, 0)))

    assert (report.events, report.tokens, report.reads) == (3, 3, 2)


@pytest.mark.parametrize(
    ("arrivals", "reads", "bunched", "largest_burst"),
    [
        ([(0.0, 1, 1), (0.5, 1, 1), (1.0, 1, 1)], 3, 0.0, 1),
        ([(0.0, 3, 3), (0.5, 1, 1)], 2, 0.75, 3),
        ([(0.0, 2, 2), (0.5, 2, 2)], 2, 1.0, 2),
        # Chunks of one read follow one another in less than a millisecond; each extends the read.
        ([(0.0, 1, 1), (0.0009, 1, 1), (0.0018, 1, 1), (0.5, 1, 1)], 2, 0.75, 3),
        ([(0.0, 1, 1), (0.0011, 1, 1)], 2, 0.0, 1),
        # What carries no text neither makes a read nor parts two.
        ([(0.0, 1, 1), (0.0005, 1, 0), (0.25, 1, 0), (0.5, 1, 1)], 2, 0.0, 1),
    ],
)
def test_a_read_is_what_comes_within_a_millisecond(
    arrivals: list[tuple[float, int, int]], reads: int, bunched: float, largest_burst: int
) -> None:
    report = measure(trace(*arrivals, started=0.0))

    assert (reads, bunched, largest_burst) == (report.reads, report.bunched, report.largest_burst)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (evenly(40), "tokens flow one by one"),
        (evenly(40, per_read=20), "bunched: 40 tokens came in 2 reads; something between buffers"),
        (
            evenly(40, per_read=40),
            "bunched: 40 tokens came in 1 read; something between buffers, "
            "or the engine is that fast",
        ),
        (evenly(3, per_read=3), "too few tokens to tell how they flow"),
        (replace(evenly(40), ending=Ending.TRUNCATED), "the body ended without a terminal event"),
        (replace(evenly(40), ending=Ending.FAILED, detail="{}"), "an error event came: {}"),
        (replace(evenly(0), ending=Ending.REFUSED, detail="no"), "refused: no"),
        (replace(evenly(40, per_read=40), ending=Ending.BROKEN), "the connection failed"),
    ],
)
def test_the_verdict_is_in_words(report: Report, words: str) -> None:
    assert words == verdict([report])


def test_the_verdict_on_several_streams_is_on_the_worst() -> None:
    good, bunched = evenly(40), evenly(40, per_read=10)
    broken = replace(good, ending=Ending.BROKEN)

    assert verdict([good, good]) == "tokens flow one by one"
    assert verdict([good, bunched, evenly(40, per_read=20)]) == (
        "2 of 3 streams: bunched: 40 tokens came in 2 reads; something between buffers"
    )
    assert verdict([bunched, broken]) == "1 of 2 streams: the connection failed"


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([evenly(40)], 0),
        ([evenly(3, per_read=3)], 0),
        ([evenly(40, per_read=20)], 1),
        ([evenly(40), evenly(40, per_read=20)], 1),
        *(
            ([evenly(40), replace(evenly(40), ending=ending)], int(ending != Ending.COMPLETED))
            for ending in Ending
        ),
    ],
)
def test_the_exit_code_is_0_where_all_completed_and_none_is_bunched(
    reports: list[Report], code: int
) -> None:
    assert code == exit_code(reports)


def shown(reports: list[Report]) -> list[str]:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(render(reports))
    return capture.get().splitlines()


def test_the_table_fits_80_columns() -> None:
    slow = replace(evenly(4_000, gap=12.0), head=123.4, ttft=654.3, ending=Ending.COMPLETED)

    head, row, _, words = shown([slow])

    assert head.split() == (
        "status head ttft gap p50 p99 max tokens per s reads bunched end".split()  # noqa: SIM905
    )
    assert row.split() == [
        *("200", "123400", "654300", "12000", "12000", "12000"),
        *("4000", "0.1", "4000", "0%", "completed"),
    ]
    assert words.strip() == "tokens flow one by one"


def test_the_table_shows_twenty_streams_at_most() -> None:
    lines = shown([evenly(4)] * 50)

    assert sum("completed" in line for line in lines) == 20
    assert any("…" in line for line in lines)


def test_what_is_unknown_is_a_dash() -> None:
    _, row, *_ = shown([measure(trace(ending=Ending.BROKEN))])

    assert row.split() == ["-"] * 6 + ["0", "-", "0", "0%", "broken"]
