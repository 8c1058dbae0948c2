"""What an event costs that is passed through to the one who asked for it.

python -m benchmarks.passthrough [--streams 200] [--rate 50] [--sweep] …
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from benchmarks.contenders import proxies
from benchmarks.options import at_least, make_parser, max_clients
from benchmarks.plots import draw_rounds
from benchmarks.processes import run
from benchmarks.report import choose, conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.streams import BUSY, COST, DELAYS, EVENTS, LOST, Streams, cpu_per_event, losses
from benchmarks.tables import render

DESCRIPTION = """
CPU time of the proxy for each event, where every reader has a call of its own at the engine: in a
steady state, from /proc, of the proxy's processes alone. Beside it: how late events are against the
engine's schedule, how many readers were not sent all, and how busy the processes were. Exits with 1
where trioproxy lost something.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = parse(arguments)
    console = make_console()
    contenders = choose(CONTENDERS, options.target, console)
    streams = Streams(
        readers=options.streams,
        generations=options.streams,
        rate=options.rate,
        settle=options.settle,
        seconds=options.seconds,
        mode="private",
    )
    with run(["simulate", "--bind", "127.0.0.1:0"]) as engine:
        cases = {
            name: partial(streams.measure, contender, engine)
            for name, contender in contenders.items()
        }
        results = take_turns(cases, options.rounds, console)
    title = f"{options.streams:,} streams of {options.rate:g} events/s, a call each"
    console.print(render(title, results.rounds, (COST, EVENTS, *DELAYS, LOST, *BUSY)))
    written = [write("passthrough", options, results)]
    panels = {"proxy's CPU µs per event": cpu_per_event, "events late, p99 ms": DELAYS[1].figure}
    written.append(draw_rounds(results.rounds, panels, title, options.output / "passthrough.png"))
    return conclude(results, losses, written, console)


CONTENDERS = proxies("trioproxy", "starlette", "nginx")


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("passthrough", DESCRIPTION, CONTENDERS)
    parser.add_argument("--streams", type=at_least(int, 1), default=200)
    parser.add_argument("--rate", type=at_least(float, 0.1), default=50.0, help="events per second")
    options = parser.parse_args(arguments)
    if options.streams > (most := max_clients(2)):
        parser.error(f"no more than {most:,} streams fit here")
    return options


if __name__ == "__main__":
    run_as_program(main)
