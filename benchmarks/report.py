"""What a benchmark tells and writes of its rounds, and the exit status that it comes to."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
from rich.console import Console

from benchmarks.contenders import Contender
from benchmarks.rounds import Results
from benchmarks.tables import REFERENCE

FILE_COLUMNS = 160
"""The width of what is no terminal."""
INTERRUPTED = 130

R = TypeVar("R")


def run_as_program(main: Callable[[], int]) -> NoReturn:
    """Run a benchmark's main and exit with its status. SIGTERM is an interruption too, as Ctrl-C
    is: what was started is ended on the way out, and the status is 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def make_console() -> Console:
    """The terminal, or what stands for one."""
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    return console


def choose(
    contenders: Mapping[str, Contender], names: Sequence[str], console: Console
) -> dict[str, Contender]:
    """Those of the names that can run here; which cannot, and why, is told. Exits with 2 where
    none can."""
    chosen: dict[str, Contender] = {}
    for name in names:
        if reason := contenders[name].missing():
            console.print(f"{name} is not measured: {reason}")
        else:
            chosen[name] = contenders[name]
    if not chosen:
        console.print("nothing can be measured")
        sys.exit(2)
    return chosen


def write(name: str, options: Namespace, results: Results[Any]) -> Path:
    """Write options and results as JSON; return where."""
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{name}.json"
    content = {
        "options": {key: value for key, value in vars(options).items() if key != "output"},
        "rounds": results.rounds,
        "failures": results.failures,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
    return path


def conclude(
    results: Results[R],
    lost: Callable[[R], int],
    written: Sequence[Path],
    console: Console,
    *,
    judged: Sequence[str] = (REFERENCE,),
) -> int:
    """Tell what failed and what was written; return 1 if one of those that are judged lost
    something or had a round that came to nothing, 130 if it was interrupted, else 0."""
    for failure in results.failures:
        console.print(f"[red]{failure}[/red]")
    console.print(f"written to {', '.join(map(str, written))}", soft_wrap=True)
    if results.was_interrupted:
        console.print("interrupted")
        return INTERRUPTED
    own = [round_ for name in judged for round_ in results.rounds.get(name, ())]
    failed = any(failure.startswith(tuple(judged)) for failure in results.failures)
    return int(failed or any(map(lost, own)))
