"""What a short stream costs, from the connection to the end.

python -m benchmarks.connect [--concurrency 8] [--keep-alive] …
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from benchmarks.churn import Answered, Churn
from benchmarks.contenders import Contender, proxies
from benchmarks.counting import EXTRA_CHUNKS
from benchmarks.options import clients, make_parser
from benchmarks.plots import draw_rounds
from benchmarks.processes import Process, run
from benchmarks.readers import request
from benchmarks.report import choose, conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.steady import BUSY, Steady, watch
from benchmarks.tables import Column, render

DESCRIPTION = """
Clients, so many at a time, each ask for a stream of one token, read it to its end, and ask for the
next, each on a connection of its own. Measured are the CPU time of the proxy for each stream, in a
steady state, from /proc, of the proxy's processes alone, the streams per second, and what a stream
takes from before the connection to its last byte. Exits with 1 where trioproxy lost something.
"""
CONTENDERS = proxies("trioproxy", "starlette", "nginx")
SPARE_SECONDS = 30.0
MICRO, MILLI = 1e6, 1e3

Round = Steady[Answered]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = parse(arguments)
    console = make_console()
    contenders = choose(CONTENDERS, options.target, console)
    with run(["simulate", "--bind", "127.0.0.1:0"]) as engine:
        cases = {
            name: partial(measure, contender, engine, options)
            for name, contender in contenders.items()
        }
        results = take_turns(cases, options.rounds, console)
    title = f"streams of one token, {options.concurrency} at a time, on " + (
        "connections that are kept alive" if options.keep_alive else "new connections"
    )
    console.print(render(title, results.rounds, COLUMNS))
    written = [write("connect", options, results)]
    panels = {"proxy's CPU µs per stream": cpu_per_stream, "streams/s": streams_per_second}
    written.append(draw_rounds(results.rounds, panels, title, options.output / "connect.png"))
    return conclude(results, lambda round_: round_.seen.failed, written, console)


def measure(contender: Contender, engine: Process, options: Namespace, number: int) -> Round:
    """Start the contender, and let the clients ask; one round.

    Raises :exc:`OSError` or :exc:`RuntimeError` where a process does not answer or ends by itself,
    or no answer came.
    """
    with contender.launch(engine.url) as server:
        churn = Churn(
            host=server.host,
            port=server.port,
            asking=request(
                "a word, please",
                1,
                {"x-sim-ttft": "0", "x-sim-rate": "0"},
                connection="keep-alive" if options.keep_alive else "close",
            ),
            events=1 + EXTRA_CHUNKS,
            clients=options.concurrency,
            keeps=options.keep_alive,
            seconds=options.settle + options.seconds + SPARE_SECONDS,
        )
        servers = {"server": server, "engine": engine}
        steady = watch(churn, servers, Answered, settle=options.settle, seconds=options.seconds)
    if not steady.seen.answers:
        raise RuntimeError("no answer came in the window")
    return steady


def cpu_per_stream(round_: Round) -> float:
    """What a stream cost the server, in microseconds."""
    return round_.cpu_seconds["server"] / round_.seen.answers * MICRO


def streams_per_second(round_: Round) -> float:
    """How many streams came to their end."""
    return round_.seen.answers / round_.seconds


COLUMNS = (
    Column("CPU µs/stream", cpu_per_stream, ",.0f", is_compared=True),
    Column("streams/s", streams_per_second, ",.0f", is_compared=True),
    Column[Round]("p50, ms", lambda round_: round_.seen.seconds[50] * MILLI),
    Column[Round]("p99", lambda round_: round_.seen.seconds[99] * MILLI),
    Column[Round]("failed", lambda round_: round_.seen.failed, ",.0f"),
    *BUSY,
)


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("connect", DESCRIPTION, CONTENDERS)
    parser.add_argument("--concurrency", type=clients(2), default=8, help="clients")
    parser.add_argument(
        "--keep-alive", action="store_true", help="each client keeps its connection"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
