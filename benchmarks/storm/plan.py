"""What the harness and the clients' process tell each other, a line of JSON each way.

The harness sends a `Plan`. Once the storm is over and all have left, the clients' process answers
with the `Departures`. It then waits, costing nothing, while engine and target are looked at, until
its input is closed; then it works out the `Findings`, and ends.
"""

from __future__ import annotations

import msgspec

from benchmarks.storm.verification import Deviation


class Plan(msgspec.Struct, frozen=True):
    """A storm: which, against whom, by whom.

    Attributes:
        pattern: the name of the pattern.
        host, port: where the target listens.
        prompts: one for each client; clients of the same prompt want the same generation.
        generations: for each client, the number of its generation.
        tokens: the length of every answer.
        headers: what every client's request has beside the usual.
        seconds: what the pattern makes its times of.
        seed: what all chance is drawn from.
    """

    pattern: str
    host: str
    port: int
    prompts: list[str]
    generations: list[int]
    tokens: int
    headers: dict[str, str]
    seconds: float
    seed: int


class Departures(msgspec.Struct, frozen=True):
    """For each client, the ``time.time_ns()`` at which it left before its answer's end; None where
    it stayed."""

    left_at: list[int | None]


class Findings(msgspec.Struct, frozen=True):
    """What the clients saw.

    Attributes:
        survivors: clients that stayed to the end.
        harmed: survivors that were not sent exactly what the engine sent.
        deviation: what is wrong with what they were sent, summed.
        worst_gap: the longest time between two events of a survivor, in seconds; 0 without one.
        unserved: clients that were refused or cut off, or were not sent in time what their pattern
            waited for.
        connections: how many were made.
        cpu_seconds: what the clients' process cost while the storm lasted.
    """

    survivors: int
    harmed: int
    deviation: Deviation
    worst_gap: float
    unserved: int
    connections: int
    cpu_seconds: float
