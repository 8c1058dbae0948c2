"""The rounds of one pattern against one target taken together, and whether they are as they should
be."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.sampling import Sample
from benchmarks.storm.measurement import Failure, Round
from benchmarks.storm.verification import Deviation

JUDGED = "trioproxy"
"""Only what this target does wrong makes the harness fail; of the others it is told."""


@dataclass
class Results:
    """All rounds, and those that came to nothing."""

    rounds: list[Round] = field(default_factory=list[Round])
    failures: list[Failure] = field(default_factory=list[Failure])

    @property
    def exit_status(self) -> int:
        """1 if something leaked or was lost at trioproxy, or if it did not answer, else 0."""
        faulty = [*(round_ for round_ in self.rounds if faults(round_)), *self.failures]
        return int(any(result.target == JUDGED for result in faulty))


@dataclass(frozen=True)
class Course:
    """A figure of the target before a storm, at its peak, and after: medians over the rounds."""

    before: float
    peak: float
    after: float


@dataclass(frozen=True)
class Summary:
    """The rounds of one pattern against one target; at least one."""

    rounds: Sequence[Round]

    @property
    def close_seconds(self) -> list[float]:
        """The close latencies of all calls of all rounds, in ascending order."""
        return sorted(seconds for round_ in self.rounds for seconds in round_.closing.seconds)

    @property
    def deviation(self) -> Deviation:
        return sum((round_.findings.deviation for round_ in self.rounds), Deviation())

    @property
    def worst_gap(self) -> float:
        """In seconds."""
        return max(round_.findings.worst_gap for round_ in self.rounds)

    def total(self, figure: Callable[[Round], int]) -> int:
        """The sum over the rounds."""
        return sum(map(figure, self.rounds))

    def median(self, figure: Callable[[Round], float]) -> float:
        """The median over the rounds."""
        return statistics.median(map(figure, self.rounds))

    def course(self, figure: Callable[[Sample], float | None]) -> Course | None:
        """How a figure went; None if the target does not tell it."""
        known = [
            (before, peak, after)
            for round_ in self.rounds
            if (before := figure(round_.before)) is not None
            and (peak := figure(round_.peak)) is not None
            and (after := figure(round_.after)) is not None
        ]
        return Course(*map(statistics.median, zip(*known, strict=True))) if known else None


def faults(round_: Round) -> dict[str, int]:
    """What leaked or was lost in a round, and how much; empty if all was well.

    The calls of a target that does not share are as many as they can be, and no fault.
    """
    findings = round_.findings
    counts = {
        "calls never closed": round_.closing.never_closed,
        "extra calls": max(0, round_.extra_calls) if round_.shares else 0,
        "clients unserved": findings.unserved,
        "survivors harmed": findings.harmed,
        **{f"{name} left over": n for name, n in round_.after.above(round_.before).items()},
    }
    return {name: count for name, count in counts.items() if count}
