"""The command: its options, and what it tells and writes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.options import RESULTS, at_least, max_clients, names
from benchmarks.processes import run
from benchmarks.storm.measurement import Storm
from benchmarks.storm.patterns import PATTERNS, Pattern
from benchmarks.storm.plots import draw
from benchmarks.storm.summary import Results, Summary
from benchmarks.storm.table import render
from benchmarks.storm.tour import can_do, tour
from benchmarks.targets import TARGETS, Target

MAX_CLIENTS = 10_000
"""The simulated engine keeps a record of as many calls."""
INTERRUPTED = 130
FILE_COLUMNS = 120
"""The width of what is no terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status: that of the results, or 130 where it was
    interrupted. Exits with 2 for bad options."""
    options = parse(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    storm = Storm(
        clients=options.clients,
        generations=options.generations,
        rate=options.rate,
        seconds=options.seconds,
        seed=options.seed,
    )
    patterns = [PATTERNS[name] for name in options.pattern]
    targets: list[Target] = []
    for target in (TARGETS[name] for name in options.target):
        if reason := target.missing():
            console.print(f"{target.name} is not measured: {reason}")
        else:
            targets.append(target)
    results = Results()
    status = INTERRUPTED
    try:
        _measure(storm, patterns, targets, options.rounds, results, console)
        status = results.exit_status
    except KeyboardInterrupt:
        console.print("interrupted")
    finally:
        _tell(patterns, targets, results, console)
        if results.rounds:
            _write(options, results, console)
    return status


def _measure(
    storm: Storm,
    patterns: Sequence[Pattern],
    targets: Sequence[Target],
    rounds: int,
    results: Results,
    console: Console,
) -> None:
    """Fill ``results``, so that what was measured is kept where this is interrupted."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    total = rounds * sum(can_do(target, pattern) for pattern in patterns for target in targets)
    with (
        Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress,
        run(["simulate", "--bind", "127.0.0.1:0", "--rate", str(storm.rate)]) as engine,
    ):
        task = progress.add_task("starting", total=total)

        def announce(pattern: Pattern, target: Target, number: int) -> None:
            description = f"{pattern.name}, round {number + 1} of {rounds}, {target.name}"
            done = len(results.rounds) + len(results.failures)
            progress.update(task, description=description, completed=done)

        tour(storm, patterns, targets, rounds, engine, announce=announce, results=results)


def _tell(
    patterns: Sequence[Pattern], targets: Sequence[Target], results: Results, console: Console
) -> None:
    for pattern in patterns:
        summaries: dict[str, Summary | None] = {}
        for target in targets:
            own = [
                round_
                for round_ in results.rounds
                if (round_.pattern, round_.target) == (pattern.name, target.name)
            ]
            if own or not can_do(target, pattern):
                summaries[target.name] = Summary(own) if own else None
        if any(summaries.values()):
            console.print(render(pattern, summaries))
    for failure in results.failures:
        where = f"{failure.pattern}, round {failure.number + 1}, {failure.target}"
        console.print(f"{where} came to nothing: {failure.reason}", style="red")


def _write(options: argparse.Namespace, results: Results, console: Console) -> None:
    directory: Path = options.output
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "storm.json"
    content = {"options": vars(options) | {"output": str(directory)}, **vars(results)}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
    title = (
        f"{options.clients:,} clients, {options.generations:,} "
        f"{'generation' if options.generations == 1 else 'generations'}, "
        f"{options.rate:g} tokens/s"
    )
    for written in (path, *draw(results.rounds, title, directory)):
        console.print(f"written to {written}", soft_wrap=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storm",
        description="Let many clients leave in many ways, and tell what that does.",
        epilog="Patterns: "
        + "; ".join(f"{pattern.name} ({pattern.story})" for pattern in PATTERNS.values())
        + ".",
    )
    parser.add_argument(
        "--target",
        type=names(TARGETS),
        default=["trioproxy"],
        help=f"all, or some of {', '.join(TARGETS)} (default: trioproxy)",
    )
    parser.add_argument(
        "--pattern",
        type=names(PATTERNS),
        default=list(PATTERNS),
        help="all, or some of those below (default: all)",
    )
    parser.add_argument("--clients", type=at_least(int, 1), default=1000)
    parser.add_argument(
        "--generations", type=at_least(int, 1), default=1, help="that the clients share"
    )
    parser.add_argument("--rounds", type=at_least(int, 1), default=5)
    parser.add_argument("--rate", type=at_least(float, 1.0), default=50.0, help="tokens per second")
    parser.add_argument(
        "--seconds", type=at_least(float, 0.1), default=5.0, help="that an answer takes"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the results")
    options = parser.parse_args(arguments)
    if options.generations > options.clients:
        parser.error("there must be a client for every generation")
    if options.clients > (most := min(MAX_CLIENTS, max_clients(2))):  # a client, and its call
        parser.error(f"no more than {most:,} clients fit here")
    return options


if __name__ == "__main__":
    # A SIGTERM is an interruption too: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
