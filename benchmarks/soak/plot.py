"""The soak as a picture: one panel for each figure, over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.soak.recording import Moment
from benchmarks.soak.verdict import MEMORY, memory_trend, warm_up_seconds

MIB = 2**20

PANELS: dict[str, dict[str, Callable[[Moment], float | None]]] = {
    "subscribers": {"": lambda moment: moment.proxy.subscribers},
    "connections": {"": lambda moment: moment.proxy.connections},
    "tasks": {"": lambda moment: moment.proxy.tasks},
    "generations": {
        "running": lambda moment: moment.proxy.generations,
        "retained": lambda moment: moment.retained,
    },
    "upstream calls": {
        "proxy": lambda moment: moment.proxy.upstream_calls,
        "engine": lambda moment: moment.active_calls,
    },
    "file descriptors": {
        "proxy": lambda moment: moment.proxy.fds,
        "engine": lambda moment: moment.engine.fds,
    },
    "transcripts, MiB": {"": lambda moment: moment.transcript_bytes / MIB},
    "proxy's memory, MiB": {"": lambda moment: moment.proxy.rss_bytes / MIB},
    "engine's memory, MiB": {"": lambda moment: moment.engine.rss_bytes / MIB},
}
"""Each panel's title, and its lines by name."""

TRENDS = {
    "proxy's memory, MiB": MEMORY["proxy"],
    "engine's memory, MiB": MEMORY["engine"],
}
"""The panels that show a trend, and of what."""


def draw_soak(moments: Sequence[Moment], *, end: float, title: str, path: Path) -> None:
    """Draw all panels into a PNG. ``end`` is the second at which the readers left."""
    minutes = [moment.seconds / 60 for moment in moments]
    figure, grid = pyplot.subplots(3, 3, figsize=(15, 9), sharex=True, layout="constrained")
    for axes, (name, lines) in zip(grid.flat, PANELS.items(), strict=True):
        for label, value in lines.items():
            axes.plot(minutes, [value(moment) for moment in moments], linewidth=0.9, label=label)
        if name in TRENDS:
            _draw_trend(axes, moments, TRENDS[name], end)
        axes.axvspan(0, warm_up_seconds(end) / 60, color="tab:orange", alpha=0.12, linewidth=0)
        axes.axvline(end / 60, color="grey", linestyle=":", linewidth=1)
        axes.set_title(name, fontsize=11, loc="left")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.15)  # room for the legend
        axes.set_xlim(0, minutes[-1])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if any(label for _, label in zip(*axes.get_legend_handles_labels(), strict=True)):
            axes.legend(fontsize=8, loc="upper right", ncols=2, frameon=False)
    for axes in grid[-1]:
        axes.set_xlabel("minutes (shaded: warm-up; dotted: all readers leave)")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_trend(
    axes: Axes, moments: Sequence[Moment], figure: Callable[[Moment], float], end: float
) -> None:
    trend = memory_trend(moments, figure, end=end)
    axes.plot(
        [seconds / 60 for seconds in trend.times],
        [value / MIB for value in trend.values],
        color="black",
        linestyle="--",
        linewidth=1,
        label=f"trend: {trend.growth:+.1%}",
    )
