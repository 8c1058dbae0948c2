"""Readers that come and go at three nodes, while nodes, network and broker fail at random.

    python -m benchmarks.cluster_churn --minutes 10 [--seed 1] [--readers 30] [--lease 2]

Every reader's stream is held against what the engine must have said, event by event. The rest is
judged at the end, from the engine's record of its calls and from looks at the broker's keys: no two
calls for one request without a fault, no call that nobody reads, one end for each reader, no key
without a time to live and none that stays, and at the nodes nothing that was not there at first.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from benchmarks.cluster import running
from benchmarks.cluster.churn import RATE, RETENTION, Churn, Findings, Plan
from benchmarks.cluster.plots import draw_troubles
from benchmarks.cluster.rig import LEASE, open_rig
from benchmarks.options import RESULTS, at_least
from benchmarks.report import make_console, run_as_program

SHOWN_VIOLATIONS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns 1 where something was not held."""
    plan, output = _parse(arguments)
    console = make_console()
    output.mkdir(parents=True, exist_ok=True)
    findings = _run(plan, output, console)
    path = output / "cluster-churn.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode({"plan": plan, "findings": findings})))
    title = (
        f"{plan.readers} readers for {plan.seconds / 60:g} minutes, seed {plan.seed}: "
        f"{len(findings.visits)} visits, {findings.calls} calls, {len(findings.troubles)} faults"
    )
    picture = draw_troubles(findings.troubles, findings.start, title, output / "cluster-churn.png")
    console.print(title)
    console.print(_table(findings))
    console.print(f"visits ended: {dict(findings.endings)}; {findings.looks} looks at the keys")
    for violation in findings.violations[:SHOWN_VIOLATIONS]:
        console.print(f"[red]not held:[/] {violation}", highlight=False)
    console.print(f"{len(findings.violations)} violations; written to {path}, {picture}")
    return int(bool(findings.violations))


def _run(plan: Plan, output: Path, console: Console) -> Findings:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    options = ("--retention", f"{RETENTION:g}")
    with (
        Progress(*columns, console=console, transient=True) as progress,
        open_rig(3, RATE, plan.lease, *options, logs=output) as rig,
    ):
        bar = progress.add_task("churn", total=plan.seconds, figures="")

        def show(findings: Findings) -> None:
            figures = (
                f"{len(findings.visits)} visits  {len(findings.troubles)} faults  "
                f"{len(findings.violations)} violations"
            )
            progress.update(bar, completed=progress.tasks[0].elapsed or 0, figures=figures)

        async def churn() -> Findings:
            churn = Churn(rig, plan)
            await churn.run(show)
            return churn.findings

        return running.run(churn)


def _table(findings: Findings) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("fault")
    for title in ("times", "got over in s: median", "worst"):
        table.add_column(title, justify="right")
    for kind in sorted({trouble.kind for trouble in findings.troubles}):
        own = [trouble for trouble in findings.troubles if trouble.kind == kind]
        known = [seconds for t in own if (seconds := t.seconds_to_recover) is not None]
        figures = (statistics.median(known), max(known)) if known else (math.nan, math.nan)
        table.add_row(kind, str(len(own)), *(f"{figure:.2f}" for figure in figures))
    return table


def _parse(arguments: Sequence[str] | None) -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster_churn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=at_least(float, 0.05), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", type=at_least(int, 1), default=30, help="at any time")
    parser.add_argument("--lease", type=at_least(float, 0.5), default=LEASE, help="in seconds")
    parser.add_argument(
        "--every", type=at_least(float, 0.1), default=6.0, help="mean seconds between two faults"
    )
    parser.add_argument(
        "--leave-keys", action="store_true", help="do not wait a minute until the last has run out"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the results")
    chosen = parser.parse_args(arguments)
    plan = Plan(
        chosen.minutes * 60,
        chosen.seed,
        chosen.readers,
        chosen.lease,
        chosen.every,
        waits_for_keys=not chosen.leave_keys,
    )
    return plan, chosen.output


if __name__ == "__main__":
    run_as_program(main)
