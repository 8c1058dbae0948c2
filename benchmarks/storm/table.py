"""A table for each pattern: a column for each target, a row for each figure that one has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.distribution import percentile
from benchmarks.storm.patterns import Pattern
from benchmarks.storm.summary import Course, Summary, faults

MIB = 2**20
NOT_APPLICABLE = "n/a"
NONE = "–"

Row = Callable[[Summary], str]


def render(pattern: Pattern, summaries: Mapping[str, Summary | None]) -> RenderableType:
    """The table of one pattern; a target that cannot do it has None for a summary."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", style="dim")
    for target in summaries:
        table.add_column(target, justify="right", overflow="fold")
    for name, row in ROWS.items():
        cells = [_cell(row, summary) for summary in summaries.values()]
        if any(cell not in (NONE, NOT_APPLICABLE) for cell in cells):
            table.add_row(name, *cells)
    table.add_row("left, lost, refused", *map(_verdict, summaries.values()))
    return Group(Text(f"{pattern.name}: {pattern.story}", "bold"), table, "")


def _cell(row: Row, summary: Summary | None) -> str:
    return NOT_APPLICABLE if summary is None else row(summary)


def _verdict(summary: Summary | None) -> Text:
    if summary is None:
        return Text(NOT_APPLICABLE)
    found = sum((Counter(faults(round_)) for round_ in summary.rounds), Counter[str]())
    if not found:
        return Text("nothing", "green")
    return Text("\n".join(f"{count:,} {name}" for name, count in found.items()), "red")


def _calls(summary: Summary) -> str:
    calls = summary.total(lambda round_: round_.closing.calls)
    return f"{calls:,} ({summary.total(lambda round_: round_.extra_calls):+,})"


def _close(share: float) -> Row:
    def cell(summary: Summary) -> str:
        ordered = summary.close_seconds
        return _milliseconds(percentile(ordered, share)) if ordered else NONE

    return cell


def _events(summary: Summary) -> str:
    wrong = summary.deviation
    return f"{wrong.lost:,}/{wrong.doubled:,}/{wrong.reordered:,}/{wrong.foreign:,}"


def _survivors(summary: Summary) -> str:
    return f"{summary.total(lambda round_: round_.findings.survivors):,}"


def _if_survivors(row: Row) -> Row:
    def cell(summary: Summary) -> str:
        survivors = summary.total(lambda round_: round_.findings.survivors)
        return row(summary) if survivors else NONE

    return cell


def _course(course: Course | None, unit: float = 1) -> str:
    if course is None:
        return NONE
    figures = (course.before, course.peak, course.after)
    return "→".join(f"{figure / unit:,.0f}" for figure in figures)


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.1f}" if abs(value) < 10 else f"{value:,.0f}"


ROWS: Mapping[str, Row] = {
    "calls (extra)": _calls,
    "close p50, ms": _close(0.5),
    "close p99, ms": _close(0.99),
    "close max, ms": _close(1.0),
    "survivors": _survivors,
    "lost/doubled/moved/foreign": _if_survivors(_events),
    "worst gap, ms": _if_survivors(lambda summary: _milliseconds(summary.worst_gap)),
    "tasks": lambda summary: _course(summary.course(lambda sample: sample.tasks)),
    "file descriptors": lambda summary: _course(summary.course(lambda sample: sample.fds)),
    "resident memory, MiB": lambda summary: _course(
        summary.course(lambda sample: sample.rss_bytes), MIB
    ),
    "CPU, s": lambda summary: f"{summary.median(lambda round_: round_.cpu_seconds):.2f}",
    "engine's CPU, s": lambda summary: (
        f"{summary.median(lambda round_: round_.engine_cpu_seconds):.2f}"
    ),
    "clients' CPU, s": lambda summary: (
        f"{summary.median(lambda round_: round_.findings.cpu_seconds):.2f}"
    ),
}
"""Name and figure of every row. Counts are sums over the rounds, latencies are of all calls of all
rounds, a gap is the worst of all; the rest are medians, those with arrows before the storm, at its
peak and after."""
