"""What it takes to catch up with a long transcript, and what that costs those who are there.

python -m benchmarks.latejoin [--joiners 20] [--bystanders 20] …
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.audience import Audience, Seen
from benchmarks.contenders import proxies
from benchmarks.counting import CountingReader
from benchmarks.delivery import ROLE_CHUNKS
from benchmarks.options import at_least, make_parser
from benchmarks.processes import Process, run
from benchmarks.questions import Question, arrival_seconds, ask_over_http
from benchmarks.readers import Loop
from benchmarks.report import make_console, run_as_program
from benchmarks.steady import Steady, watch
from benchmarks.sweeps import Axes, report_sweep

DESCRIPTION = """
Readers join, one after the other, a generation whose transcript has so many events and whose engine
is silent by then, and read all of it; others read another generation all the while. Measured are
the seconds from before the connection to the last event, the CPU time of the server meanwhile for
each event, and the gaps between the events of the others, in rounds with late readers and in rounds
without. Exits with 1 where something was lost.
"""
TRIOPROXY = proxies("trioproxy")["trioproxy"]
SIZES = (100, 1_000, 10_000, 100_000)
CASES = ("quiet", "joined")
"""Without late readers, and with them."""
BYSTANDER_RATE = 50.0
LIMIT_SECONDS = 60.0
MICRO, MILLI, MIB = 1e6, 1e3, 2.0**20


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round.

    Attributes:
        steady: the window, and what the bystanders saw in it.
        catch_up_seconds: of each late reader.
        bytes: that one of them was sent.
        cpu_seconds: of the server, while one or the other was catching up.
        events: that each was to be sent.
        lost: late readers that were not sent all.
    """

    steady: Steady[Seen]
    catch_up_seconds: list[float]
    cpu_seconds: float
    events: int
    bytes: int
    lost: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell and write; return the exit status. Exits with 2 for bad options."""
    options = parse(arguments)
    with run(["simulate", "--bind", "127.0.0.1:0"]) as engine:
        joiners = {"quiet": 0, "joined": options.joiners}

        def cases_of(events: int) -> Mapping[str, Callable[[int], Round]]:
            return {
                name: partial(measure, engine, events, joiners[name], options)
                for name in options.target
            }

        return report_sweep(
            "latejoin",
            options.events,
            cases_of,
            AXES,
            lambda round_: round_.lost + round_.steady.seen.lost,
            options,
            make_console(),
            judged=CASES,
        )


def measure(engine: Process, events: int, joiners: int, options: Namespace, number: int) -> Round:
    """Start trioproxy, fill a transcript, and let readers join late, spread over the window; one
    round.

    Raises :exc:`OSError` or :exc:`RuntimeError` where a process does not answer or ends by itself,
    or the transcript is not filled in time.
    """
    asking = ask_over_http(
        Question(
            prompt=f"{events} events, {number}",
            tokens=2 * events,  # of which half come before it stalls
            rate=0,
            ttft=0,
            mode="replay",
            stalls=True,
        )
    )
    late: list[CountingReader] = []
    seconds: list[float] = []
    cpu_seconds: list[float] = []

    with TRIOPROXY.launch(engine.url) as server, Loop() as loop:

        def join() -> None:
            reader = CountingReader(asking, enough=events + ROLE_CHUNKS)
            cpu = server.cpu_seconds()
            began = time.monotonic()
            loop.connect(reader, server.host, server.port)
            loop.run_until_all([reader], lambda reader: reader.is_done, began + LIMIT_SECONDS)
            seconds.append(time.monotonic() - began)
            cpu_seconds.append(server.cpu_seconds() - cpu)
            late.append(reader)

        def join_and_wait(window: float) -> None:
            opened = time.monotonic()
            for joiner in range(joiners):
                time.sleep(max(0.0, opened + window * joiner / joiners - time.monotonic()))
                join()
            time.sleep(max(0.0, opened + window - time.monotonic()))

        keeper = CountingReader(asking, enough=2 * events + ROLE_CHUNKS)
        loop.connect(keeper, server.host, server.port)
        deadline = time.monotonic() + LIMIT_SECONDS
        if not loop.run(lambda: keeper.events == events + ROLE_CHUNKS, deadline):
            raise RuntimeError(f"{keeper.events:,} events came, not {events:,}")
        steady = watch(
            _bystanders(server, options),
            {"server": server, "engine": engine},
            Seen,
            settle=options.settle,
            seconds=options.seconds,
            during=join_and_wait,
        )
    return Round(
        steady=steady,
        catch_up_seconds=seconds,
        cpu_seconds=sum(cpu_seconds),
        events=events + ROLE_CHUNKS,
        bytes=max((reader.bytes for reader in late), default=0),
        lost=sum(reader.events < reader.enough for reader in late),
    )


def _bystanders(server: Process, options: Namespace) -> Audience:
    length = options.settle + options.seconds + LIMIT_SECONDS
    question = Question(
        prompt="bystanders",
        tokens=round(length * BYSTANDER_RATE),
        rate=BYSTANDER_RATE,
        ttft=arrival_seconds(options.bystanders),
        mode="replay",
    )
    return Audience(
        host=server.host,
        port=server.port,
        askings=[ask_over_http(question)],
        readers=options.bystanders,
        tokens=question.tokens,
        rate=question.rate,
        ttft=question.ttft,
        stays=False,
    )


def _milliseconds(round_: Round) -> float | None:
    seconds = round_.catch_up_seconds
    return statistics.median(seconds) * MILLI if seconds else None


def _mib_per_second(round_: Round) -> float | None:
    seconds = round_.catch_up_seconds
    return round_.bytes / MIB / statistics.median(seconds) if seconds else None


def _cpu_per_event(round_: Round) -> float | None:
    sent = len(round_.catch_up_seconds) * round_.events
    return round_.cpu_seconds / sent * MICRO if sent else None


def _gap(percent: int) -> Callable[[Round], float]:
    return lambda round_: round_.steady.seen.gaps[percent] * MILLI


AXES = tuple(
    Axes("late joins", "events in the transcript", figure, value)
    for figure, value in {
        "ms to catch up": _milliseconds,
        "MiB/s": _mib_per_second,
        "CPU µs per event": _cpu_per_event,
        "others' gap p99, ms": _gap(99),
        "others' longest gap, ms": _gap(100),
    }.items()
)


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the options; exits with 2 where they make no sense."""
    parser = make_parser("latejoin", DESCRIPTION, CASES)
    parser.add_argument("--joiners", type=at_least(int, 1), default=20, help="late readers")
    parser.add_argument("--bystanders", type=at_least(int, 1), default=20, help="other readers")
    parser.add_argument(
        "--events",
        type=at_least(int, 1),
        nargs="+",
        default=SIZES,
        help="that transcripts have",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_as_program(main)
