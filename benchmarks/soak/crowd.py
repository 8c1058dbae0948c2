"""The readers, a process of their own: ``python -m benchmarks.soak.crowd HOST PORT ...``.

It prints a report a second, one line of JSON each (see :class:`Report`), and goes on until its
stdin is closed: then all readers leave at once, and it ends.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import msgspec
import trio

from benchmarks.soak.behaviours import BEHAVIOURS
from benchmarks.soak.reading import Violation
from benchmarks.soak.visitor import Commons, Over, Visitor

REPORT_SECONDS = 1.0
VISIT_SECONDS = 90.0
PAUSE_SECONDS = 0.5
"""The mean of a reader's pause between two visits."""

MAX_VIOLATIONS = 100


@dataclass
class Report:
    """What the crowd has done so far.

    ``visits`` are counted by behaviour, each when it is over; ``violations`` are the first hundred.
    """

    questions: int = 0
    events: int = 0
    visits: dict[str, int] = field(default_factory=lambda: Counter[str]())
    violations: list[str] = field(default_factory=list[str])


async def visit_for_ever(visitor: Visitor, report: Report) -> None:
    """Visit again and again, each time as is drawn. Never returns; if cancelled, the reader leaves
    in the middle of whatever it does."""
    behaviours, weights = list(BEHAVIOURS), list(BEHAVIOURS.values())
    while True:
        await trio.sleep(visitor.random.expovariate(1 / PAUSE_SECONDS))
        [behaviour] = visitor.random.choices(behaviours, weights)
        name = behaviour.__name__
        try:
            with trio.fail_after(VISIT_SECONDS):
                await behaviour(visitor)
        except* Over:
            pass
        except* (Violation, trio.TooSlowError) as errors:
            found = [f"{name}: {error or 'took longer than 90 s'}" for error in _leaves(errors)]
            report.violations += found[: MAX_VIOLATIONS - len(report.violations)]
        report.visits[name] += 1


async def run_crowd(commons: Commons, readers: int) -> None:
    """Let so many readers visit until stdin is closed. Each draws from the seed and its number."""
    report = Report()
    async with trio.open_nursery() as nursery:
        for number in range(readers):
            random = Random(f"{commons.seed}:{number}")
            nursery.start_soon(visit_for_ever, Visitor(commons, random), report)
        nursery.start_soon(print_reports, commons, report)
        await wait_stdin_closed()
        nursery.cancel_scope.cancel(reason="the crowd is sent home")
    print_report(commons, report)


async def print_reports(commons: Commons, report: Report) -> None:
    """Print the report once a second, until cancelled."""
    while True:
        print_report(commons, report)
        await trio.sleep(REPORT_SECONDS)


def print_report(commons: Commons, report: Report) -> None:
    """Print the report as it is now, as one line."""
    report.questions, report.events = commons.asked, commons.events
    print(msgspec.json.encode(report).decode(), flush=True)


async def wait_stdin_closed() -> None:
    """Wait for the end of stdin; what comes on it is dropped."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        async for _ in stdin:
            pass


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    host, port, readers, seed, retention = sys.argv[1:]
    trio.run(run_crowd, Commons((host, int(port)), int(seed), float(retention)), int(readers))
