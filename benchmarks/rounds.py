"""Rounds of all contenders in turns, so that what else the machine does falls on all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import product
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

R = TypeVar("R")


@dataclass
class Results(Generic[R]):
    """All rounds of all cases, by name, why others came to nothing, and whether it all was cut
    short."""

    rounds: dict[str, list[R]] = field(default_factory=dict[str, list[R]])
    failures: list[str] = field(default_factory=list[str])
    was_interrupted: bool = False


def take_turns(
    cases: Mapping[str, Callable[[int], R]], rounds: int, console: Console, *, label: str = ""
) -> Results[R]:
    """Measure round 0 of every case, then round 1 of every case, and so on, with progress shown
    under the label.

    A round in which a server or the clients do not answer, or end by themselves, comes to nothing,
    and that is told in the results. An interruption ends it after the rounds that were measured;
    :exc:`KeyboardInterrupt` is raised where there are none.
    """
    results = Results[R]()
    turns: Sequence[tuple[int, str]] = list(product(range(rounds), cases))
    with _progress(console) as progress:
        task = progress.add_task("", total=len(turns))
        for number, name in turns:
            progress.update(task, description=f"{label}{name}, round {number + 1}")
            try:
                results.rounds.setdefault(name, []).append(cases[name](number))
            except (OSError, HTTPException, RuntimeError) as error:
                results.failures.append(f"{name}, round {number + 1}: {error}")
            except KeyboardInterrupt:
                if not any(results.rounds.values()):
                    raise
                results.was_interrupted = True
                break
            progress.advance(task)
    return results


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
