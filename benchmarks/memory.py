"""What an idle subscriber holds.

python -m benchmarks.memory [--subscribers 2000] …
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.audience import Audience, Seen
from benchmarks.contenders import Contender, proxies
from benchmarks.options import clients, make_parser
from benchmarks.plots import draw_rounds
from benchmarks.processes import Process, run
from benchmarks.questions import Question, arrival_seconds
from benchmarks.report import choose, conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.steady import Steady, share_of_core, watch
from benchmarks.tables import Column, render

DESCRIPTION = """
Resident memory of the server for each subscriber of one generation, whose engine is silent after
the first token: from /proc, before the first came, and in a window in which nothing happens. The
server is started anew for each round, and has answered one reader before. Beside it: CPU time in
that window, as cores. Exits with 1 where a subscriber of trioproxy was not served.
"""
CONTENDERS = proxies("trioproxy", "quart")
KIB = 1024.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round.

    Attributes:
        subscribers: that were served.
        unserved: the others.
        before_bytes, held_bytes: what the server held without any, and with all.
        steady: the window.
    """

    subscribers: int
    unserved: int
    before_bytes: int
    held_bytes: int
    steady: Steady[Seen]


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
    title = f"{options.subscribers:,} idle subscribers of one generation"
    console.print(render(title, results.rounds, COLUMNS))
    written = [write("memory", options, results)]
    panels = {"KiB per subscriber": kib_each}
    written.append(draw_rounds(results.rounds, panels, title, options.output / "memory.png"))
    return conclude(results, lambda round_: round_.unserved, written, console)


def measure(contender: Contender, engine: Process, options: Namespace, number: int) -> Round:
    """Start the contender, let the subscribers come, and look; one round.

    Raises :exc:`OSError` or :exc:`RuntimeError` where a process does not answer or ends by itself.
    """
    with contender.launch(engine.url) as server:
        watch(
            _audience(contender, server, "first", 1), {"server": server}, Seen, settle=0, seconds=0
        )
        before = server.rss_bytes()
        steady = watch(
            _audience(contender, server, "all", options.subscribers),
            {"server": server, "engine": engine},
            Seen,
            settle=options.settle,
            seconds=options.seconds,
        )
    return Round(
        subscribers=steady.ready,
        unserved=options.subscribers - steady.ready,
        before_bytes=before,
        held_bytes=steady.rss_bytes,
        steady=steady,
    )


def _audience(contender: Contender, server: Process, prompt: str, subscribers: int) -> Audience:
    question = Question(
        prompt=prompt,
        tokens=2,
        rate=1.0,
        ttft=arrival_seconds(subscribers),
        mode="replay",
        stalls=True,
    )
    return Audience(
        host=server.host,
        port=server.port,
        askings=[contender.ask(question)],
        readers=subscribers,
        tokens=question.tokens,
        rate=question.rate,
        ttft=question.ttft,
        stays=False,
    )


def kib_each(round_: Round) -> float:
    """What a subscriber held, in KiB."""
    return (round_.held_bytes - round_.before_bytes) / round_.subscribers / KIB


COLUMNS = (
    Column("KiB/subscriber", kib_each, ",.1f", is_compared=True),
    Column[Round]("MiB before", lambda round_: round_.before_bytes / KIB**2, ",.1f"),
    Column[Round]("MiB held", lambda round_: round_.held_bytes / KIB**2, ",.1f"),
    Column[Round]("idle CPU", lambda round_: share_of_core("server")(round_.steady), ".1%"),
    Column[Round]("unserved", lambda round_: round_.unserved, ",.0f"),
)


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("memory", DESCRIPTION, CONTENDERS)
    parser.set_defaults(seconds=3.0)
    parser.add_argument("--subscribers", type=clients(1), default=2000)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
