"""What an event costs that one stream brings to many.

python -m benchmarks.fanout [--subscribers 1000] [--rate 50] [--transport http] [--sweep] …
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.audience import Seen
from benchmarks.contenders import (
    Certificate,
    Contender,
    fan_outs,
    make_certificate,
    tls_fan_outs,
    websocket_fan_outs,
)
from benchmarks.options import at_least, clients, make_parser, max_clients
from benchmarks.plots import draw_rounds
from benchmarks.processes import Process, run
from benchmarks.report import choose, conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.steady import BUSY, Steady
from benchmarks.streams import (
    COST,
    DELAYS,
    EVENTS,
    FIRSTS,
    LOST,
    Streams,
    cpu_per_event,
    losses,
)
from benchmarks.sweeps import Axes, report_sweep
from benchmarks.tables import render
from benchmarks.transports import TRANSPORTS

DESCRIPTION = """
CPU time of the server for each event that it delivers, where the subscribers all read one
generation: in a steady state, from /proc, of the server's processes alone. Beside it: how late
events are against the engine's schedule, at the median and the 99th percentile, and at the
subscriber that has each first (no later than that the server has read it); how late the last token
is; how many subscribers were not sent all; and how busy the processes were. Exits with 1 where
trioproxy lost something.
"""

SIZES = (1, 10, 100, 1_000, 10_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = parse(arguments)
    console = make_console()
    with (
        tempfile.TemporaryDirectory(prefix="certificate-") as directory,
        run(["simulate", "--bind", "127.0.0.1:0"]) as engine,
    ):
        certificate = make_certificate(Path(directory))
        known = _contenders(options.transport, certificate)
        names = [name for name in options.target if name in known]
        for name in set(options.target).difference(names):
            console.print(f"{name} is not measured: it is not had over {options.transport}")
        contenders = choose(known, names, console)
        steady = partial(
            Streams,
            generations=1,
            settle=options.settle,
            seconds=options.seconds,
            mode="replay",
            transport=options.transport,
            authority=certificate.authority,
        )
        if options.sweep:
            return _sweep(steady, contenders, engine, options, console)
        streams = steady(readers=options.subscribers, rate=options.rate)
        results = take_turns(streams.cases(contenders, engine), options.rounds, console)
    title = (
        f"{options.subscribers:,} subscribers of one generation at {options.rate:g} events/s, "
        f"over {options.transport}"
    )
    console.print(render(title, results.rounds, (COST, EVENTS, *DELAYS, *FIRSTS, LOST, *BUSY)))
    name = f"fanout-{options.transport}"
    written = [write(name, options, results)]
    panels = {"server's CPU µs per event": cpu_per_event, "events late, p99 ms": DELAYS[1].figure}
    written.append(draw_rounds(results.rounds, panels, title, options.output / f"{name}.png"))
    return conclude(results, losses, written, console)


def _sweep(
    steady: Callable[..., Streams],
    contenders: Mapping[str, Contender],
    engine: Process,
    options: Namespace,
    console: Console,
) -> int:
    def cases_of(subscribers: int) -> Mapping[str, Callable[[int], Steady[Seen]]]:
        streams = steady(readers=subscribers, rate=options.deliveries / subscribers)
        return streams.cases(contenders, engine)

    axes = Axes(
        f"one generation, {options.deliveries:,.0f} deliveries/s over {options.transport}",
        "subscribers",
        "server's CPU µs per event",
        cpu_per_event,
    )
    sizes = [size for size in SIZES if size <= max_clients(1)]
    return report_sweep(
        f"fanout-{options.transport}-sweep", sizes, cases_of, [axes], losses, options, console
    )


def _contenders(transport: str, certificate: Certificate) -> Mapping[str, Contender]:
    if transport == "tls":
        return tls_fan_outs(certificate)
    return websocket_fan_outs() if transport == "websocket" else fan_outs()


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("fanout", DESCRIPTION, list(fan_outs()))
    parser.add_argument("--subscribers", type=clients(1), default=1000)
    parser.add_argument("--rate", type=at_least(float, 0.1), default=50.0, help="events per second")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help=f"{', '.join(f'{size:,}' for size in SIZES)} subscribers (as many as fit "
        "here), at the same deliveries per second",
    )
    parser.add_argument(
        "--deliveries", type=at_least(float, 1), default=10_000.0, help="per second, of a sweep"
    )
    parser.add_argument("--transport", choices=TRANSPORTS, default="http")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
