"""Pictures of what faults cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.cluster.faults import Round
from benchmarks.cluster.trouble import Trouble

DPI = 150
BLUE, RED = "#0072b2", "#d55e00"
COLORS = (BLUE, RED, "#009e73", "#e69f00", "#cc79a7", "#000000")


def draw_faults(rounds: Mapping[str, Sequence[Round]], title: str, path: Path) -> Path:
    """A row for each fault: a dot for each time, a line at the median, and one at what is
    promised."""
    figure = Figure(figsize=(9, 1.4 + 0.4 * len(rounds)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    axes = figure.subplots()
    for row, own in enumerate(rounds.values()):
        if own:
            seconds = [round_.seconds for round_ in own]
            axes.plot(seconds, [row] * len(own), "o", color=BLUE, alpha=0.5)
            axes.plot(statistics.median(seconds), row, "|", color=BLUE, markersize=22)
            axes.plot(own[0].bound, row, "|", color=RED, markersize=22)
    axes.set_yticks(range(len(rounds)), list(rounds))
    axes.set_ylim(len(rounds) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds (blue: each time, and the median; red: what is promised)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.88")
    figure.savefig(path, dpi=DPI)
    return path


def draw_troubles(troubles: Sequence[Trouble], start: float, title: str, path: Path) -> Path:
    """How long it took to get over each, over the time; a colour for each kind."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    axes = figure.subplots()
    for color, kind in zip(COLORS, sorted({trouble.kind for trouble in troubles}), strict=False):
        known = [
            ((trouble.began_at - start) / 60, seconds)
            for trouble in troubles
            if trouble.kind == kind and (seconds := trouble.seconds_to_recover) is not None
        ]
        if known:
            minutes, seconds = zip(*known, strict=True)
            axes.plot(minutes, seconds, "o", color=color, alpha=0.7, label=kind)
    axes.set(xlabel="minutes", ylabel="seconds until a call is shared by all nodes again")
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8, ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.88")
    figure.savefig(path, dpi=DPI)
    return path
