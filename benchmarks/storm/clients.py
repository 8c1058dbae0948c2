"""The clients' process: ``python -m benchmarks.storm.clients``, which the harness starts.

It speaks as ``benchmarks.storm.plan`` says. The garbage collector is off: the process is short.
"""

from __future__ import annotations

import gc
import resource
import sys
import time

import msgspec

from benchmarks.readers import Loop
from benchmarks.storm.crowd import Client, Crowd
from benchmarks.storm.patterns import PATTERNS
from benchmarks.storm.plan import Departures, Findings, Plan
from benchmarks.storm.verification import Deviation, verify, worst_gap

OK = 200


def main() -> None:
    gc.disable()
    _raise_descriptor_limit()
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    with Loop() as loop:
        crowd = Crowd(plan, loop)
        began = time.process_time()
        PATTERNS[plan.pattern].act(crowd)
        cpu_seconds = time.process_time() - began
        left_at = [client.reader.left_at for client in crowd.clients]
    _tell(Departures(left_at))
    sys.stdin.buffer.read()
    _tell(find(crowd.clients, left_at, plan.tokens, cpu_seconds))


def find(
    clients: list[Client], left_at: list[int | None], tokens: int, cpu_seconds: float
) -> Findings:
    """Work out what the clients saw, those that stayed (and did not leave) in particular."""
    answers = [client.answers() for client in clients]
    survivors = [
        (client, [event for answer in own for event in answer.events])
        for client, own, moment in zip(clients, answers, left_at, strict=True)
        if moment is None
    ]
    deviations = [verify(events, client.prompt, tokens) for client, events in survivors]
    return Findings(
        survivors=len(survivors),
        harmed=sum(map(bool, deviations)),
        deviation=sum(deviations, Deviation()),
        worst_gap=max((worst_gap(events) for _, events in survivors), default=0.0),
        unserved=sum(
            client.is_late or any(answer.status not in (OK, None) for answer in own)
            for client, own in zip(clients, answers, strict=True)
        ),
        connections=sum(len(client.visits) for client in clients),
        cpu_seconds=cpu_seconds,
    )


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell(message: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
