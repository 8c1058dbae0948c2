"""What generations cost that two nodes of a cluster read.

python -m benchmarks.sharing [--generations 100] [--readers 1] [--rate 50] …
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from benchmarks.audience import Audience, Elsewhere, Seen
from benchmarks.cluster.rig import BrokerServer
from benchmarks.options import at_least, clients, make_parser
from benchmarks.plots import draw_rounds
from benchmarks.processes import Process, run
from benchmarks.questions import Question, ask_over_http
from benchmarks.report import conclude, make_console, run_as_program, write
from benchmarks.rounds import take_turns
from benchmarks.steady import Steady, share_of_core, watch
from benchmarks.streams import COST, DELAYS, EVENTS, LOST, cpu_per_event, losses
from benchmarks.tables import Column, render
from benchmarks.targets import run_trioproxy

DESCRIPTION = """
CPU time of a proxy for each event that it delivers to its own readers: of one that is alone, of the
node that owns the generations while another reads each of them too, and of that other, which reads
on when the owner's own readers have left. In a steady state, from /proc, of that proxy alone.
Beside it: how late events are at its readers against the engine's schedule, how many readers were
not sent all, and how busy the processes were. Exits with 1 where something was lost.
"""

SPARE_SECONDS = 2.0
TTFT = 0.5

BUSY = tuple(
    Column(f"{name} CPU", share_of_core(name), ".0%")
    for name in ("server", "other", "broker", "engine", "clients")
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = _parse(arguments)
    console = make_console()
    cases: Mapping[str, Callable[..., Steady[Seen]]] = {
        "alone": partial(_measure, options, come_first=None),
        "owner": partial(_measure, options, come_first=False),
        "replica": partial(_measure, options, come_first=True),
    }
    cases = {name: cases[name] for name in options.target}
    with run(["simulate", "--bind", "127.0.0.1:0"]) as engine, _broker() as broker:
        measured = {name: partial(case, engine, broker, f"{name} ") for name, case in cases.items()}
        results = take_turns(measured, options.rounds, console)
    readers = "one reader" if options.readers == 1 else f"{options.readers} readers"
    title = f"{options.generations} generations of {options.rate:g} events/s, {readers} of each"
    columns = (COST, EVENTS, *DELAYS, LOST, *BUSY)
    console.print(render(title, results.rounds, columns, reference="alone"))
    written = [write("sharing", options, results)]
    panels = {"node's CPU µs per event": cpu_per_event, "events late, p99 ms": DELAYS[1].figure}
    written.append(draw_rounds(results.rounds, panels, title, options.output / "sharing.png"))
    return conclude(results, losses, written, console)


@contextmanager
def _broker() -> Generator[BrokerServer]:
    broker = BrokerServer()
    broker.start()
    try:
        yield broker
    finally:
        broker.end()


def _measure(
    options: Namespace,
    engine: Process,
    broker: BrokerServer,
    name: str,
    number: int,
    *,
    come_first: bool | None,
) -> Steady[Seen]:
    """One round. ``come_first``: whether those at the other node do; None where there is none."""
    length = TTFT + options.settle + options.seconds + SPARE_SECONDS
    questions = [
        Question(
            prompt=f"{name}{number}, {index}",
            tokens=round(length * options.rate),
            rate=options.rate,
            ttft=TTFT,
            mode="replay",
        )
        for index in range(options.generations)
    ]
    in_cluster = () if come_first is None else ("--cluster", f"redis://127.0.0.1:{broker.port}")
    assert broker.process is not None
    with (
        run_trioproxy(engine.url, in_cluster) as server,
        run_trioproxy(engine.url, in_cluster) as other,
    ):
        elsewhere = None
        if come_first is not None:
            elsewhere = Elsewhere(host=other.host, port=other.port, each=1, come_first=come_first)
        audience = Audience(
            host=server.host,
            port=server.port,
            askings=[ask_over_http(question) for question in questions],
            readers=options.readers * options.generations,
            tokens=questions[0].tokens,
            rate=options.rate,
            ttft=TTFT,
            elsewhere=elsewhere,
        )
        servers = {"server": server, "other": other, "broker": broker.process, "engine": engine}
        return watch(audience, servers, Seen, settle=options.settle, seconds=options.seconds)


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = make_parser("sharing", DESCRIPTION, ["alone", "owner", "replica"])
    parser.add_argument("--generations", type=clients(2), default=100)
    parser.add_argument("--readers", type=at_least(int, 1), default=1, help="of each, at the node")
    parser.add_argument("--rate", type=at_least(float, 0.1), default=50.0, help="events per second")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
