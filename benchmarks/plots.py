"""Figures that benchmarks have in common, each a PNG file."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 150
COLORS = {
    "trioproxy": "#0072b2",
    "quart": "#e69f00",
    "starlette": "#009e73",
    "nginx": "#cc79a7",
    "nchan": "#cc79a7",
    "loop": "#000000",
    "direct": "#000000",
    "quiet": "#e69f00",
    "joined": "#0072b2",
    "replay": "#0072b2",
    "live": "#56b4e9",
    "private": "#d55e00",
    "alone": "#000000",
    "owner": "#0072b2",
    "replica": "#d55e00",
}
"""Of Okabe and Ito, told apart by the colour-blind too; a contender's is always the same."""

R = TypeVar("R")


def draw_rounds(
    rounds: Mapping[str, Sequence[R]],
    panels: Mapping[str, Callable[[R], float | None]],
    title: str,
    path: Path,
) -> Path:
    """A panel for each figure: a row for each contender, a dot for each round, a line at the
    median."""
    height = 1.4 + 0.4 * len(rounds)
    figure = Figure(figsize=(1 + 4 * len(panels), height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for axes, (label, value) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for row, (name, own) in enumerate(rounds.items()):
            values = [known for round_ in own if (known := value(round_)) is not None]
            if values:
                color = COLORS[name]
                axes.plot(values, [row] * len(values), "o", color=color, alpha=0.5)
                axes.plot(statistics.median(values), row, "|", color=color, markersize=22)
        axes.set_yticks(range(len(rounds)), list(rounds))
        axes.set_ylim(len(rounds) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        _tidy(axes, "x")
    return _save(figure, path)


def draw_sweep(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]], title: str, x: str, path: Path
) -> Path:
    """A panel for each figure: a line for each contender, over an axis of sizes, both
    logarithmic."""
    figure = Figure(figsize=(1 + 5 * len(panels), 4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for axes, (label, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, points in lines.items():
            # What is too little to be measured has no place on a logarithmic axis.
            shown = {size: value for size, value in points.items() if value > 0}
            if shown:
                axes.loglog(list(shown), list(shown.values()), "o-", color=COLORS[name], label=name)
        axes.set(xlabel=x, ylabel=label)
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_formatter("{x:,g}")
        if axes.lines:
            axes.legend(frameon=False)
        _tidy(axes, "both")
    return _save(figure, path)


def draw_distributions(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], title: str, path: Path
) -> Path:
    """A panel for each figure, a line for each contender: the share of values that are not larger.

    Each round is given by its percentiles, the least first, and each is drawn.
    """
    figure = Figure(figsize=(1 + 5 * len(panels), 4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for axes, (label, groups) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, rounds in groups.items():
            for index, percentiles in enumerate(own for own in rounds if own):
                shown = name if index == 0 else "_nolegend_"
                ranks = range(len(percentiles))
                axes.plot(percentiles, ranks, color=COLORS[name], alpha=0.7, label=shown)
        axes.set(xlabel=label, ylabel="% of all", ylim=(0, 100))
        axes.legend(frameon=False)
        _tidy(axes, "both")
    return _save(figure, path)


def _tidy(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.88")  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI)
    return path
