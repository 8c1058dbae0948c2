"""The command line of the soak, its progress and its report."""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

import benchmarks.soak
from benchmarks.soak.crowd import Report
from benchmarks.soak.plot import PANELS, draw_soak
from benchmarks.soak.recording import Moment
from benchmarks.soak.run import Options, Result, soak
from benchmarks.soak.verdict import judge

RESULTS = Path(__file__).parent.parent / "results"
MIN_MINUTES = 2.0
MIN_RETENTION_SECONDS = 5.0
LOG_LINES = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak; return the exit status: 0 if all held, 1 if not. Bad options exit with 2."""
    options = _parse(arguments)
    console = Console()
    RESULTS.mkdir(exist_ok=True)
    log = RESULTS / "soak-proxy.log"
    log.write_bytes(b"")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("soak", total=options.seconds, figures="")

        def show(moment: Moment, crowd: Report) -> None:
            progress.update(bar, completed=moment.seconds, figures=_figures(moment, crowd))

        try:
            result = soak(options, log, show)
        except (OSError, RuntimeError) as error:
            console.print(f"[red]broke off:[/] {error}", highlight=False)
            _show_end(log, console)
            return 1
    return report(options, result, log, console)


def _exit(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=benchmarks.soak.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, required=True, help="2 or more")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", type=int, default=60, help="at any time (default: 60)")
    parser.add_argument(
        "--retention",
        type=float,
        default=10.0,
        help="seconds for which the proxy keeps what has ended; 5 or more (default: 10)",
    )
    chosen = parser.parse_args(arguments)
    if not MIN_MINUTES <= chosen.minutes < math.inf:
        parser.error("--minutes must be 2 or more: the first is warm-up")
    if chosen.readers < 1:
        parser.error("--readers must be 1 or more")
    if not MIN_RETENTION_SECONDS <= chosen.retention < math.inf:
        parser.error("--retention must be 5 or more: readers come back for what has ended")
    return Options(chosen.minutes * 60, chosen.seed, chosen.readers, chosen.retention)


def _figures(moment: Moment, crowd: Report) -> str:
    minutes, seconds = divmod(int(moment.seconds), 60)
    return (
        f"{minutes}:{seconds:02}  {sum(crowd.visits.values())} visits  "
        f"[{'red' if crowd.violations else 'green'}]{len(crowd.violations)} violations[/]  "
        f"{moment.proxy.tasks} tasks  {moment.proxy.fds} fds  "
        f"{moment.proxy.rss_bytes // 2**20} MiB"
    )


def report(options: Options, result: Result, log: Path, console: Console) -> int:
    """Write, draw and print what a soak has seen; return the exit status. ``log`` is the file that
    the proxy's stderr went to."""
    failures = judge(
        result.baseline,
        result.moments,
        end=result.end,
        violations=result.report.violations,
        log=log.read_text(errors="replace"),
    )
    written = {"options": options, "failures": failures, "result": result}
    (RESULTS / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(written)))
    visits = sum(result.report.visits.values())
    title = (
        f"{options.readers} readers for {options.seconds / 60:g} minutes, seed {options.seed}: "
        f"{visits} visits, {result.report.questions} questions, {result.report.events} events read"
    )
    draw_soak(result.moments, end=result.end, title=title, path=RESULTS / "soak.png")
    console.print(title)
    console.print(_table(result))
    console.print(f"written to {RESULTS / 'soak.json'} and soak.png")
    for failure in failures:
        console.print(f"[red]failed:[/] {failure}", highlight=False)
    if not failures:
        return 0
    _show_end(log, console)
    return 1


def _show_end(log: Path, console: Console) -> None:
    lines = log.read_text(errors="replace").splitlines()
    console.print(f"the last lines of {log}, of {len(lines)}:", highlight=False)
    console.print("\n".join(lines[-LOG_LINES:]), markup=False, highlight=False)


def _table(result: Result) -> Table:
    table = Table("figure", "", *("baseline", "median", "peak", "at the end"))
    for column in table.columns[2:]:
        column.justify = "right"
    before_end = [moment for moment in result.moments if moment.seconds <= result.end]
    for name, lines in PANELS.items():
        for label, value in lines.items():
            values = [value(moment) or 0.0 for moment in before_end]
            figures = (
                value(result.baseline) or 0.0,
                statistics.median(values),
                max(values),
                value(result.moments[-1]) or 0.0,
            )
            table.add_row(name, label, *(f"{figure:.4g}" for figure in figures))
    return table


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # both end the processes too, and quietly
        signal.signal(number, _exit)
    sys.exit(main())
