"""The three figures of a storm: how soon calls were closed, what targets held, what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from random import Random

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.distribution import percentile
from benchmarks.sampling import Sample
from benchmarks.storm.measurement import Round
from benchmarks.storm.summary import Course, Summary
from benchmarks.targets import TARGETS

DPI = 150
COLORS = dict(zip(TARGETS, ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"), strict=True))
"""Of Okabe and Ito, told apart by the colour-blind too; a target's is always the same."""
SHORTEST_MS = 0.1
"""What is shorter, or negative, is drawn here: the axis is logarithmic."""

Cells = Mapping[tuple[str, str], Summary]
"""By pattern and target."""


def draw(rounds: Sequence[Round], title: str, directory: Path) -> list[Path]:
    """Write the figures as PNG files, each under the title; return where."""
    groups: dict[tuple[str, str], list[Round]] = {}
    for round_ in rounds:
        groups.setdefault((round_.pattern, round_.target), []).append(round_)
    cells = {key: Summary(group) for key, group in groups.items()}
    drawings = {"close": _draw_close(cells), "held": _draw_held(cells), "cpu": _draw_cpu(cells)}
    paths: list[Path] = []
    for name, figure in drawings.items():
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        paths.append(directory / f"storm-{name}.png")
        figure.savefig(paths[-1], dpi=DPI)
    return paths


class _Rows:
    """Where each pattern and target has its row: patterns from top to bottom, a gap between."""

    def __init__(self, cells: Cells) -> None:
        self.patterns = list(dict.fromkeys(pattern for pattern, _ in cells))
        self.targets = list(dict.fromkeys(target for _, target in cells))
        self._cells = cells
        self._step = len(self.targets) + 1
        self.height = 1.2 + 0.17 * self._step * len(self.patterns)

    def at(self, pattern: str, target: str) -> float:
        return self.patterns.index(pattern) * self._step + self.targets.index(target)

    def note(self, axes: Axes, y: float, text: str, color: str) -> None:
        """Say to the right of a row what cannot be drawn."""
        place = axes.get_yaxis_transform()
        axes.text(1.01, y, text, transform=place, ha="left", va="center", color=color, fontsize=8)

    def label(self, axes: Axes) -> None:
        """Name the patterns beside the axes, put a light band behind every second one, and say
        which rows stay empty."""
        middle = (len(self.targets) - 1) / 2
        tops = [index * self._step for index in range(len(self.patterns))]
        axes.set_yticks([top + middle for top in tops], self.patterns)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(tops[-1] + self._step - 0.5, -0.5 - 0.5)
        for pattern, target in product(self.patterns, self.targets):
            if (pattern, target) not in self._cells:
                self.note(axes, self.at(pattern, target), "n/a", "0.6")
        for top in tops[::2]:
            axes.axhspan(top - 1, top + self._step - 1, color="0.96", zorder=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="0.88")
        axes.set_axisbelow(True)

    def legend(self, figure: Figure) -> None:
        """Name the targets above the axes."""
        handles = [
            figure.axes[0].plot([], [], "o", color=COLORS[target], label=target)[0]
            for target in self.targets
        ]
        figure.legend(
            handles=handles, loc="outside upper right", ncols=5, frameon=False, columnspacing=1
        )


def _draw_close(cells: Cells) -> Figure:
    rows = _Rows(cells)
    figure = Figure(figsize=(9, rows.height), layout="constrained")
    axes = figure.subplots()
    jitter = Random(0)
    for (pattern, target), summary in cells.items():
        y, color = rows.at(pattern, target), COLORS[target]
        milliseconds = [max(SHORTEST_MS, seconds * 1000) for seconds in summary.close_seconds]
        never = summary.total(lambda round_: round_.closing.never_closed)
        if milliseconds:
            heights = [y + jitter.uniform(-0.3, 0.3) for _ in milliseconds]
            alpha = min(1.0, 0.2 + 10 / len(milliseconds))
            axes.plot(percentile(milliseconds, 0.5), y, "|", color="black", markersize=10, zorder=3)
            axes.plot(milliseconds, heights, ".", color=color, alpha=alpha, markeredgewidth=0)
        if never:
            rows.note(axes, y, f"{never:,} never closed", "red")
        elif not milliseconds:
            rows.note(axes, y, "no call was abandoned", "0.6")
    rows.label(axes)
    rows.legend(figure)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlim(left=SHORTEST_MS * 0.8)
    axes.set_xlabel("ms from the last departure to the close at the engine, each call (| median)")
    return figure


def _draw_held(cells: Cells) -> Figure:
    rows = _Rows(cells)
    figure = Figure(figsize=(12, rows.height), layout="constrained")
    panels: Sequence[tuple[str, str, Callable[[Sample], float | None]]] = (
        ("file descriptors", "log", lambda sample: sample.fds),
        ("tasks", "log", lambda sample: sample.tasks),
        ("resident memory, MiB", "linear", lambda sample: sample.rss_bytes / 2**20),
    )
    for axes, (title, scale, figure_of) in zip(
        figure.subplots(1, 3, sharey=True), panels, strict=True
    ):
        for (pattern, target), summary in cells.items():
            course = summary.course(figure_of)
            if course is not None:
                _draw_course(axes, rows.at(pattern, target), COLORS[target], course)
        rows.label(axes)
        axes.set_xscale(scale)
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_xlabel(title)
    rows.legend(figure)
    figure.supxlabel("○ before   — to the peak   ● after (medians of the rounds)", fontsize=9)
    return figure


def _draw_course(axes: Axes, y: float, color: str, course: Course) -> None:
    axes.plot([course.before, course.peak], [y, y], color=color, linewidth=1.5, alpha=0.6)
    axes.plot(course.before, y, "o", markerfacecolor="none", color=color, markersize=6)
    axes.plot(course.after, y, "o", color=color, markersize=3)


def _draw_cpu(cells: Cells) -> Figure:
    rows = _Rows(cells)
    figure = Figure(figsize=(9, rows.height), layout="constrained")
    axes = figure.subplots()
    for (pattern, target), summary in cells.items():
        y, color = rows.at(pattern, target), COLORS[target]
        seconds = [round_.cpu_seconds for round_ in summary.rounds]
        axes.barh(y, summary.median(lambda round_: round_.cpu_seconds), color=color, alpha=0.5)
        axes.plot(seconds, [y] * len(seconds), ".", color=color)
    rows.label(axes)
    rows.legend(figure)
    axes.set_xlim(left=0)
    axes.set_xlabel("CPU seconds of the target, each round (bar: median)")
    return figure
