"""Tables of medians: a row for each contender, and how each compares with trioproxy."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich import box
from rich.table import Table

REFERENCE = "trioproxy"
NONE = "–"

R = TypeVar("R")


@dataclass(frozen=True)
class Column(Generic[R]):
    """A figure of a round; None where a round has none. ``format`` is as of :func:`format`.

    ``is_compared``: the ratio to trioproxy's is shown beside it.
    """

    title: str
    figure: Callable[[R], float | None]
    format: str = ",.2f"
    is_compared: bool = False


def median(rounds: Sequence[R], figure: Callable[[R], float | None]) -> float | None:
    """The median over the rounds that have the figure; None if none has."""
    known = [value for round_ in rounds if (value := figure(round_)) is not None]
    return statistics.median(known) if known else None


def render(
    title: str,
    rounds: Mapping[str, Sequence[R]],
    columns: Sequence[Column[R]],
    *,
    reference: str = REFERENCE,
) -> Table:
    """The medians, and ratios to the reference, where it was measured too."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column.title, justify="right")
        if column.is_compared:
            table.add_column(f"of {reference}'s", justify="right", style="dim")
    for name, own in rounds.items():
        cells: list[str] = []
        for column in columns:
            value = median(own, column.figure)
            cells.append(NONE if value is None else format(value, column.format))
            if column.is_compared:
                cells.append(_ratio(value, median(rounds.get(reference, ()), column.figure)))
        table.add_row(name, *cells)
    return table


def _ratio(value: float | None, reference: float | None) -> str:
    return NONE if value is None or not reference else f"{value / reference:.2f}×"
