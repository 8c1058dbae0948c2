"""A window of a steady state: what servers and clients cost in it, and what the clients saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from benchmarks.audience import Audience, Seen
from benchmarks.churn import READY_SECONDS, Answered, Churn
from benchmarks.conversation import Ready, Window, talk_to
from benchmarks.processes import Process, run
from benchmarks.tables import Column

FINDING_SECONDS = 120.0
"""What clients may take to work out what they saw."""

S = TypeVar("S", Seen, Answered)


@dataclass(frozen=True, kw_only=True)
class Steady(Generic[S]):
    """One window.

    Attributes:
        ready: how many clients had had an event when it began to settle.
        seconds: its length.
        cpu_seconds: what each process cost in it, with all its descendants.
        rss_bytes: what the server held at its end.
        seen: by the clients.
    """

    ready: int
    seconds: float
    cpu_seconds: Mapping[str, float]
    rss_bytes: int
    seen: S


def watch(
    task: Audience | Churn,
    servers: Mapping[str, Process],
    type_: type[S],
    *,
    settle: float,
    seconds: float,
    during: Callable[[float], None] = time.sleep,
) -> Steady[S]:
    """Let a process of clients do the task, and look at the servers, of which the first is the one
    that is measured, in a window: ``settle`` seconds after all clients are there, ``seconds`` long.
    What is done ``during`` it is told how long that is, and takes as long.

    Raises :exc:`OSError` where the clients' process does not answer in the time that it has.
    """
    with run([], module="benchmarks.clients") as clients, talk_to(clients) as conversation:
        processes = {**servers, "clients": clients}
        limit = task.limit_seconds if isinstance(task, Audience) else READY_SECONDS
        conversation.say(task)
        ready = conversation.hear(Ready, seconds=limit + FINDING_SECONDS).clients
        time.sleep(settle)
        opened = time.time_ns()
        before = _cpu_seconds(processes)
        during(seconds)
        closed = time.time_ns()
        cpu_seconds = {
            name: after - before[name] for name, after in _cpu_seconds(processes).items()
        }
        rss_bytes = next(iter(servers.values())).rss_bytes()
        conversation.say(Window(opened, closed))
        seen = conversation.hear(type_, seconds=limit + FINDING_SECONDS)
    return Steady(
        ready=ready,
        seconds=(closed - opened) / 1e9,
        cpu_seconds=cpu_seconds,
        rss_bytes=rss_bytes,
        seen=seen,
    )


def share_of_core(name: str) -> Callable[[Steady[Any]], float]:
    """How busy one of the processes was: 1 is a core."""
    return lambda round_: round_.cpu_seconds[name] / round_.seconds


BUSY = tuple(
    Column(f"{name} CPU", share_of_core(name), ".0%") for name in ("server", "engine", "clients")
)
"""Columns of a table; a process that is near 100% is the one that was measured."""


def _cpu_seconds(processes: Mapping[str, Process]) -> dict[str, float]:
    return {name: process.cpu_seconds() for name, process in processes.items()}
