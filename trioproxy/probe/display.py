"""The reports for a person to read, and a sign of life while they are made."""

import math
from collections.abc import Sequence

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trioproxy.probe.report import Ending, Report, Trace

_COLUMNS = (
    *("status", "head", "ttft", "gap p50", "p99", "max"),
    *("tokens", "per s", "reads", "bunched", "end"),
)
_ENDINGS = {
    Ending.COMPLETED: "completed",
    Ending.TRUNCATED: "the body ended without a terminal event",
    Ending.FAILED: "an error event came",
    Ending.REFUSED: "refused",
    Ending.BROKEN: "the connection failed",
}
_MAX_ROWS = 20
_REFRESH_INTERVAL = 0.1  # seconds


def render(reports: Sequence[Report]) -> RenderableType:
    """Return a table of the reports, with the verdict below it.

    A row is a stream, and only the first 20 have one. Times are in milliseconds. It fits a terminal
    of 80 columns.
    """
    table = Table(*_COLUMNS, box=None, header_style="dim", padding=(0, 1, 0, 0))
    for column in table.columns:
        column.justify = "right"
        column.no_wrap = True
    for report in reports[:_MAX_ROWS]:
        table.add_row(*_cells(report))
    if len(reports) > _MAX_ROWS:
        table.add_row("…")
    return Group(table, "", Text(verdict(reports)))


def verdict(reports: Sequence[Report]) -> str:
    """Return in words what the reports come to: the worst of them, and how many are like it.

    The worst is a stream that did not complete, then one that is bunched.
    """
    failed = [report for report in reports if report.ending is not Ending.COMPLETED]
    if failed:
        detail = f": {failed[0].detail}" if failed[0].detail else ""
        return f"{_share(failed, reports)}{_ENDINGS[failed[0].ending]}{detail}"
    bunched = [report for report in reports if report.is_bunched]
    if bunched:
        worst = max(bunched, key=lambda report: report.largest_burst)
        # One read has no gap after it, in which a buffer would show.
        reads = f"{worst.reads} reads" if worst.reads > 1 else "1 read"
        doubt = "" if worst.reads > 1 else ", or the engine is that fast"
        return (
            f"{_share(bunched, reports)}bunched: {worst.tokens} tokens came in {reads}; "
            f"something between buffers{doubt}"
        )
    if not all(report.is_telling for report in reports):
        return "too few tokens to tell how they flow"
    return "tokens flow one by one"


async def show_progress(console: Console, traces: Sequence[Trace]) -> None:
    """Show on the console how far the streams are, until cancelled, which wipes it.

    A transient `Live` writes nothing to what is no terminal.
    """
    # Drawn by this task: a thread of rich's would delay the clock readings that are the point.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            ended = sum(not math.isnan(trace.ended) for trace in traces)
            received = sum(trace.bytes for trace in traces)
            progress = f"{ended} of {len(traces)} streams ended, {received:,} bytes"
            live.update(Text(progress), refresh=True)
            await trio.sleep(_REFRESH_INTERVAL)


def _share(some: Sequence[Report], reports: Sequence[Report]) -> str:
    return f"{len(some)} of {len(reports)} streams: " if len(reports) > 1 else ""


def _cells(report: Report) -> list[str]:
    return [
        "-" if report.status is None else str(report.status),
        _milliseconds(report.head),
        _milliseconds(report.ttft),
        _milliseconds(report.gap_p50),
        _milliseconds(report.gap_p99),
        _milliseconds(report.gap_max),
        str(report.tokens),
        "-" if report.rate is None else f"{report.rate:.1f}",
        str(report.reads),
        f"{report.bunched:.0%}",
        report.ending,
    ]


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.{0 if seconds >= 1 else 1}f}"
