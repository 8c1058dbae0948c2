"""Rounds for one size after the other, and how a figure goes with the size."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.plots import draw_sweep
from benchmarks.report import conclude, write
from benchmarks.rounds import Results, take_turns
from benchmarks.tables import NONE, REFERENCE, median

R = TypeVar("R")


@dataclass(frozen=True)
class Axes(Generic[R]):
    """What is shown over what: a figure of a round over the size that was swept."""

    title: str
    size: str
    figure: str
    value: Callable[[R], float | None]


def report_sweep(
    name: str,
    sizes: Sequence[int],
    cases_of: Callable[[int], Mapping[str, Callable[[int], R]]],
    panels: Sequence[Axes[R]],
    lost: Callable[[R], int],
    options: Namespace,
    console: Console,
    *,
    judged: Sequence[str] = (REFERENCE,),
) -> int:
    """Take turns at each size, tell, and write; return the exit status: see
    `benchmarks.report.conclude`."""
    swept: dict[int, Results[R]] = {}
    for size in sizes:
        label = f"{size:,} {panels[0].size}, "
        try:
            swept[size] = take_turns(cases_of(size), options.rounds, console, label=label)
        except KeyboardInterrupt:
            if not swept:
                raise
            swept[size] = Results(was_interrupted=True)
        if swept[size].was_interrupted:
            break
    for axes in panels:
        console.print(render_sweep(swept, axes), "")
    merged = merge(swept)
    written = [write(name, options, merged)]
    written.append(draw_sweeps(swept, panels, options.output / f"{name}.png"))
    return conclude(merged, lost, written, console, judged=judged)


def lines_of(swept: Mapping[int, Results[R]], axes: Axes[R]) -> dict[str, dict[int, float]]:
    """For each contender the median figure at each size that it was measured at."""
    lines: dict[str, dict[int, float]] = {}
    for size, results in swept.items():
        for name, rounds in results.rounds.items():
            if (value := median(rounds, axes.value)) is not None:
                lines.setdefault(name, {})[size] = value
    return lines


def render_sweep(swept: Mapping[int, Results[R]], axes: Axes[R]) -> Table:
    """A row for each contender, a column for each size."""
    title = f"{axes.title}: {axes.figure}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column(axes.size)
    for size in swept:
        table.add_column(f"{size:,}", justify="right")
    for name, points in lines_of(swept, axes).items():
        table.add_row(name, *(f"{points[size]:,.2f}" if size in points else NONE for size in swept))
    return table


def draw_sweeps(swept: Mapping[int, Results[R]], panels: Sequence[Axes[R]], path: Path) -> Path:
    """The tables as lines, in a PNG file."""
    lines = {axes.figure: lines_of(swept, axes) for axes in panels}
    return draw_sweep(lines, panels[0].title, panels[0].size, path)


def merge(swept: Mapping[int, Results[R]]) -> Results[R]:
    """The rounds of all sizes, one size after the other."""
    merged = Results[R]()
    for size, results in swept.items():
        for name, rounds in results.rounds.items():
            merged.rounds.setdefault(name, []).extend(rounds)
        merged.failures += [f"{failure} (at {size:,})" for failure in results.failures]
        merged.was_interrupted |= results.was_interrupted
    return merged
