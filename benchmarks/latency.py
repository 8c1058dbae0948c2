"""What a proxy adds to the time of a token, and what it does to the gaps between tokens.

python -m benchmarks.latency [--streams 50] [--rate 50] …
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence

from benchmarks.audience import Seen
from benchmarks.contenders import engine_itself, proxies
from benchmarks.options import at_least, clients, make_parser
from benchmarks.plots import draw_distributions
from benchmarks.processes import run
from benchmarks.report import choose, conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.steady import BUSY, Steady
from benchmarks.streams import LOST, MILLI, Streams, losses
from benchmarks.tables import Column, median, render

DESCRIPTION = """
How late tokens are against the engine's schedule, where every reader has a call of its own: by way
of each proxy, and from the engine itself, all in turns in the same run. What a proxy adds is the
difference of the medians over the rounds. Beside it the gaps between two events at one reader: what
comes in one read has none, so a proxy that bundles shows gaps of zero and long ones. Exits with 1
where trioproxy lost something.
"""
DIRECT = "direct"
Round = Steady[Seen]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = parse(arguments)
    console = make_console()
    streams = Streams(
        readers=options.streams,
        generations=options.streams,
        rate=options.rate,
        settle=options.settle,
        seconds=options.seconds,
        mode="private",
    )
    with run(["simulate", "--bind", "127.0.0.1:0"]) as engine:
        known = {DIRECT: engine_itself(engine), **PROXIES}
        contenders = choose(known, [DIRECT, *options.target], console)
        results = take_turns(streams.cases(contenders, engine), options.rounds, console)
    title = f"{options.streams:,} streams of {options.rate:g} events/s, a call each"
    console.print(render(title, results.rounds, columns(results.rounds)))
    written = [write("latency", options, results)]
    panels = {
        "late, ms": _distributions(results.rounds, lambda round_: round_.seen.delays),
        "gap between two events, ms": _distributions(
            results.rounds, lambda round_: round_.seen.gaps
        ),
    }
    written.append(draw_distributions(panels, title, options.output / "latency.png"))
    return conclude(results, losses, written, console)


PROXIES = proxies("trioproxy", "starlette", "nginx")


def _late(percent: int) -> Callable[[Round], float]:
    return lambda round_: round_.seen.delays[percent] * MILLI


def _added(percent: int, direct: float) -> Callable[[Round], float]:
    return lambda round_: _late(percent)(round_) - direct


def _gap(percent: int) -> Callable[[Round], float]:
    return lambda round_: round_.seen.gaps[percent] * MILLI


def columns(rounds: Mapping[str, Sequence[Round]]) -> list[Column[Round]]:
    """The columns of the table. What is added, is added to the median over the rounds in which the
    engine itself was asked."""
    shown: list[Column[Round]] = []
    for percent in (50, 99):
        late = _late(percent)
        shown.append(Column(f"late p{percent}, ms", late))
        if (direct := median(rounds.get(DIRECT, ()), late)) is not None:
            shown.append(Column(f"added p{percent}, ms", _added(percent, direct)))
    shown += (Column(f"gap p{percent}, ms", _gap(percent)) for percent in (1, 50, 99))
    return [*shown, LOST, *BUSY]


def _distributions(
    rounds: Mapping[str, Sequence[Round]], values: Callable[[Round], list[float]]
) -> dict[str, list[list[float]]]:
    return {
        name: [[value * MILLI for value in values(round_)] for round_ in own]
        for name, own in rounds.items()
    }


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("latency", DESCRIPTION, PROXIES)
    parser.add_argument("--streams", type=clients(2), default=50)
    parser.add_argument("--rate", type=at_least(float, 0.1), default=50.0, help="events per second")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
