"""What each fault between nodes and their broker costs, held against what is promised.

    python -m benchmarks.cluster_faults [--repetitions 10] [--lease 2] [--fault NAME,NAME]

Real processes: an engine, a broker (Valkey), three nodes, and a gate between each node and the
broker. A process is killed (SIGKILL) or stopped (SIGSTOP); a network loses everything when its gate
holds it back. Times at the engine are the engine's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.table import Table

from benchmarks.cluster import running
from benchmarks.cluster.faults import FAULTS, PATIENCE_SECONDS, RATE, Fault, Round, open_scene
from benchmarks.cluster.plots import draw_faults
from benchmarks.cluster.rig import LEASE, Rig, open_rig
from benchmarks.distribution import percentile
from benchmarks.options import RESULTS, at_least, names
from benchmarks.report import conclude, make_console, run_as_program, write
from benchmarks.rounds import Results, take_turns

BUSY_SECONDS = 0.25
"""How far a promise about time is not held against a busy machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do each fault so many times. Returns 1 where something was wrong or too late."""
    options = _parse(arguments)
    console = make_console()
    options.output.mkdir(parents=True, exist_ok=True)
    patience = ("--cluster-patience", str(PATIENCE_SECONDS))
    with open_rig(3, RATE, options.lease, *patience, logs=options.output) as rig:
        cases = {name: partial(_do, rig, options.lease, FAULTS[name]) for name in options.fault}
        results = take_turns(cases, options.repetitions, console)
    console.print(_table(results))
    for name, rounds in results.rounds.items():
        for wrong in (wrong for round_ in rounds for wrong in round_.wrong):
            console.print(f"[red]{name}:[/] {wrong}", highlight=False)
    title = f"{options.repetitions} of each fault, a lease of {options.lease:g} s"
    picture = draw_faults(results.rounds, title, options.output / "cluster-faults.png")
    written = [write("cluster-faults", options, results), picture]
    return conclude(results, _was_broken, written, console, judged=tuple(FAULTS))


def _do(rig: Rig, lease: float, fault: Fault, number: int) -> Round:
    async def run() -> Round:
        async with open_scene(rig, lease) as scene:
            return await fault(scene)

    return running.run(run)


def _was_broken(round_: Round) -> int:
    return int(bool(round_.wrong) or round_.seconds > round_.bound + BUSY_SECONDS)


def _table(results: Results[Round]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("fault")
    for title in ("times", "median s", "worst s", "promised s", "kept"):
        table.add_column(title, justify="right")
    for name, rounds in results.rounds.items():
        if not rounds:
            continue
        ordered = sorted(round_.seconds for round_ in rounds)
        kept = sum(not _was_broken(round_) for round_ in rounds)
        table.add_row(
            name,
            str(len(rounds)),
            f"{percentile(ordered, 0.5):.3f}",
            f"{ordered[-1]:.3f}",
            f"{rounds[0].bound:.3f}",
            f"{kept} of {len(rounds)}",
        )
    return table


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster_faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repetitions", type=at_least(int, 1), default=10)
    parser.add_argument("--lease", type=at_least(float, 0.5), default=LEASE, help="in seconds")
    parser.add_argument("--fault", type=names(FAULTS), default=list(FAULTS), help="all, or some")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
