"""What was measured, held against what was promised."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from trioproxy.demo.reader import Reader, Received


class Figure(NamedTuple):
    """A law in plain words, what was measured of it, what it promises, and whether it holds."""

    law: str
    measured: str
    expected: str
    holds: bool

    @property
    def mark(self) -> Text:
        """✓ or ✗."""
        return Text("✓", "green") if self.holds else Text("✗", "bold red")


def figures_table(figures: Sequence[Figure]) -> Table:
    """The table that the demonstration ends with."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    table.add_column("law")
    table.add_column("measured", style="cyan")
    table.add_column("expected")
    table.add_column("")
    for figure in figures:
        style = None if figure.holds else "bold"
        table.add_row(figure.law, figure.measured, figure.expected, figure.mark, style=style)
    return table


def count_alike(readers: Sequence[Reader]) -> int:
    """How many readers hold a whole stream, byte for byte the first one's."""
    return sum(reader.complete and reader.body == readers[0].body for reader in readers)


def count_lost(seqs: Sequence[int], last: int) -> int:
    """How many of the events 1 to ``last`` are missing."""
    return len(set(range(1, last + 1)) - set(seqs))


def count_doubled(seqs: Sequence[int]) -> int:
    """How many events came although they had come before."""
    return len(seqs) - len(set(seqs))


def gaps_between(
    events: Sequence[Received], *, start: float = -math.inf, end: float = math.inf
) -> list[float]:
    """The seconds between one event and the next, for those that came from ``start`` to ``end``."""
    return [after.at - before.at for before, after in pairwise(events) if start <= after.at <= end]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def calls_in_words(calls: int) -> str:
    """A number of calls in words: "1 call", "3 calls"."""
    return f"{calls} call" if calls == 1 else f"{calls} calls"


def milliseconds(seconds: float) -> str:
    """A duration in words: "1.4 ms", "23 ms"."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"
