"""What the three ways to serve many cost: broadcast, replay, and a call for each.

python -m benchmarks.strategies [--subscribers 200] [--rate 50] …
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.audience import Seen
from benchmarks.contenders import proxies
from benchmarks.options import at_least, clients, make_parser
from benchmarks.plots import draw_rounds
from benchmarks.processes import Process, run
from benchmarks.questions import Mode
from benchmarks.report import conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.sampling import fetch_json
from benchmarks.steady import Steady
from benchmarks.streams import COST, DELAYS, EVENTS, LOST, Streams, cpu_per_event
from benchmarks.tables import Column, render

DESCRIPTION = """
CPU time of trioproxy for each event, its memory, and the calls that the engine had, for as many
subscribers of the same request who get it in each of the three ways: live (broadcast: what comes
from now on), replay (all from the start, then live), private (a call for each). Live readers join a
generation when it is there, and miss what was before; so they are held to nothing but the window.
Exits with 1 where something was lost.
"""
CONTENDER = proxies("trioproxy")["trioproxy"]
MODES: tuple[Mode, ...] = ("live", "replay", "private")
MIB = 2.0**20


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: a window, and how many calls the engine had for it."""

    steady: Steady[Seen]
    calls: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = parse(arguments)
    console = make_console()
    with run(["simulate", "--bind", "127.0.0.1:0"]) as engine:
        cases = {mode: partial(measure, mode, engine, options) for mode in options.target}
        results = take_turns(cases, options.rounds, console)
    title = f"{options.subscribers:,} subscribers of one request, {options.rate:g} events/s"
    console.print(render(title, results.rounds, COLUMNS, reference="replay"))
    written = [write("strategies", options, results)]
    panels: dict[str, Callable[[Round], float]] = {
        "CPU µs per event": lambda round_: cpu_per_event(round_.steady),
        "MiB held": lambda round_: round_.steady.rss_bytes / MIB,
        "calls at the engine": lambda round_: round_.calls,
    }
    written.append(draw_rounds(results.rounds, panels, title, options.output / "strategies.png"))
    return conclude(results, lambda round_: round_.steady.seen.lost, written, console, judged=MODES)


def measure(mode: Mode, engine: Process, options: Namespace, number: int) -> Round:
    """Start trioproxy, and let the subscribers read in this mode; one round. Raises as
    `Streams.measure`."""
    streams = Streams(
        readers=options.subscribers,
        generations=1,
        rate=options.rate,
        settle=options.settle,
        seconds=options.seconds,
        mode=mode,
    )
    fetch_json(f"{engine.url}/calls", method="DELETE")
    steady = streams.measure(CONTENDER, engine, number)
    return Round(steady=steady, calls=len(fetch_json(f"{engine.url}/calls")))


def _of_steady(column: Column[Steady[Seen]]) -> Column[Round]:
    return Column(
        column.title,
        lambda round_: column.figure(round_.steady),
        column.format,
        column.is_compared,
    )


COLUMNS = (
    Column[Round]("engine calls", lambda round_: round_.calls, ",.0f"),
    *map(_of_steady, (COST, EVENTS, *DELAYS, LOST)),
    Column[Round]("MiB held", lambda round_: round_.steady.rss_bytes / MIB, ",.1f"),
)


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("strategies", DESCRIPTION, MODES)
    parser.add_argument("--subscribers", type=clients(2), default=200)
    parser.add_argument("--rate", type=at_least(float, 0.1), default=50.0, help="events per second")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
