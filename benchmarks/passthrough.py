"""What an event costs that is passed through to the one who asked for it.

python -m benchmarks.passthrough [--streams 200] [--rate 50] [--sweep] …
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rich.console import Console

from benchmarks.audience import Seen
from benchmarks.contenders import Contender, proxies
from benchmarks.options import at_least, clients, make_parser
from benchmarks.plots import draw_rounds
from benchmarks.processes import Process, run
from benchmarks.report import choose, conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.steady import BUSY, Steady
from benchmarks.streams import COST, DELAYS, EVENTS, LOST, Streams, cpu_per_event, losses
from benchmarks.sweeps import Axes, report_sweep
from benchmarks.tables import render

DESCRIPTION = """
CPU time of the proxy for each event, where every reader has a call of its own at the engine: in a
steady state, from /proc, of the proxy's processes alone. Beside it: how late events are against the
engine's schedule, how many readers were not sent all, and how busy the processes were. Exits with 1
where trioproxy lost something.
"""

CONTENDERS = proxies("trioproxy", "starlette", "nginx")
SIZES = (1, 10, 100, 1_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = parse(arguments)
    console = make_console()
    contenders = choose(CONTENDERS, options.target, console)
    steady = partial(Streams, settle=options.settle, seconds=options.seconds, mode="private")
    with run(["simulate", "--bind", "127.0.0.1:0"]) as engine:
        if options.sweep:
            return _sweep(steady, contenders, engine, options, console)
        streams = steady(readers=options.streams, generations=options.streams, rate=options.rate)
        results = take_turns(streams.cases(contenders, engine), options.rounds, console)
    title = f"{options.streams:,} streams of {options.rate:g} events/s, a call each"
    console.print(render(title, results.rounds, (COST, EVENTS, *DELAYS, LOST, *BUSY)))
    written = [write("passthrough", options, results)]
    panels = {"proxy's CPU µs per event": cpu_per_event, "events late, p99 ms": DELAYS[1].figure}
    written.append(draw_rounds(results.rounds, panels, title, options.output / "passthrough.png"))
    return conclude(results, losses, written, console)


def _sweep(
    steady: Callable[..., Streams],
    contenders: Mapping[str, Contender],
    engine: Process,
    options: Namespace,
    console: Console,
) -> int:
    def cases_of(size: int) -> Mapping[str, Callable[[int], Steady[Seen]]]:
        streams = steady(readers=size, generations=size, rate=options.deliveries / size)
        return streams.cases(contenders, engine)

    axes = Axes(
        f"a call for each stream, {options.deliveries:,.0f} events/s in all",
        "streams",
        "proxy's CPU µs per event",
        cpu_per_event,
    )
    return report_sweep("passthrough-sweep", SIZES, cases_of, [axes], losses, options, console)


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("passthrough", DESCRIPTION, CONTENDERS)
    parser.add_argument("--streams", type=clients(2), default=200)
    parser.add_argument("--rate", type=at_least(float, 0.1), default=50.0, help="events per second")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help=f"{', '.join(f'{size:,}' for size in SIZES)} streams, with as many events/s in all",
    )
    parser.add_argument(
        "--deliveries", type=at_least(float, 1), default=5_000.0, help="per second, of a sweep"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
