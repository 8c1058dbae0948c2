"""Round by round through patterns and targets, interleaved, so that what else the machine does
meanwhile falls on all targets alike."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.client import HTTPException
from itertools import product
from types import TracebackType
from typing import Self

import msgspec

from benchmarks.processes import Process
from benchmarks.storm.measurement import Failure, Storm, measure
from benchmarks.storm.patterns import Pattern
from benchmarks.storm.summary import Results
from benchmarks.targets import Running, Target

WARM_UP_SECONDS = 60.0


class Stand:
    """A target in front of the engine, for the length of the block, and started anew on demand."""

    def __init__(self, target: Target, engine: Process) -> None:
        self.target = target
        self._engine = engine
        self._stack = ExitStack()
        self.running: Running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(exc_type, exc_value, traceback)

    def end(self) -> None:
        """End the target. Raises :exc:`RuntimeError` where it had ended by itself."""
        self._stack.close()

    def start(self) -> None:
        """Start the target, and let it answer once, so that the first round finds it as the others
        do. Raises :exc:`OSError` where it does not answer."""
        self.running = self._stack.enter_context(self.target.open(self._engine.url))
        body = {
            "model": "simulated",
            "messages": [{"role": "user", "content": "warm-up"}],
            "max_tokens": 5,
            "stream": True,
        }
        warm_up = urllib.request.Request(
            self.running.url + "/v1/chat/completions",
            data=msgspec.json.encode(body),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(warm_up, timeout=WARM_UP_SECONDS) as answer:
            answer.read()


def tour(
    storm: Storm,
    patterns: Sequence[Pattern],
    targets: Sequence[Target],
    rounds: int,
    engine: Process,
    *,
    announce: Callable[[Pattern, Target, int], None],
    results: Results,
) -> None:
    """Fill the results with all that can be done, pattern after pattern; in each, round 0 of every
    target, then round 1 of every target, and so on.

    A target runs from a pattern's first round to its last, so that what it keeps adds up; but one
    that has not let go of all calls is started anew, for those would weigh on the next round, and
    so is one whose round failed.
    """
    for pattern in patterns:
        with ExitStack() as stack:
            stands = [
                stack.enter_context(Stand(target, engine))
                for target in targets
                if can_do(target, pattern)
            ]
            for number, stand in product(range(rounds), stands):
                announce(pattern, stand.target, number)
                _measure_at(stand, storm, pattern, engine, number, results)


def _measure_at(
    stand: Stand, storm: Storm, pattern: Pattern, engine: Process, number: int, results: Results
) -> None:
    try:
        round_ = measure(storm, pattern, stand.target, stand.running, engine, number)
    except (OSError, HTTPException) as error:
        reason = _end_failed(stand) or str(error)
        results.failures.append(Failure(pattern.name, stand.target.name, number, reason))
        stand.start()
        return
    results.rounds.append(round_)
    if round_.closing.never_closed:
        stand.end()
        stand.start()


def _end_failed(stand: Stand) -> str | None:
    """End a target that does not answer; return how it had ended by itself, if it had."""
    try:
        stand.end()
    except RuntimeError as error:
        return str(error)
    return None


def can_do(target: Target, pattern: Pattern) -> bool:
    """Whether the target has what the pattern needs."""
    return target.resumes or not pattern.needs_resume
