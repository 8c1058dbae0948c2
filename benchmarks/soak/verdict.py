"""What must hold at the end of a soak, and what did not."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.soak.recording import Moment

MAX_GROWTH = 0.05
"""Of resident memory after the warm-up, as a part of its level: as much or more fails."""

WARM_UP_SHARE = 0.2
MIN_WARM_UP_SECONDS = 60.0
WINDOW_SECONDS = 10.0

_TELLTALES = ("Traceback (most recent call last)", "Exception ignored", "Warning:")
"""What stands in the log of a process in which something went wrong unforeseen."""


def warm_up_seconds(seconds: float) -> float:
    """The part of a soak of so many seconds that is not held against it: a fifth, at least 60 s."""
    return max(MIN_WARM_UP_SECONDS, WARM_UP_SHARE * seconds)


@dataclass(frozen=True)
class Trend:
    """A straight line through a figure: what it is at two times, in the figure's unit and
    seconds."""

    times: tuple[float, float]
    values: tuple[float, float]

    @property
    def growth(self) -> float:
        """From the first time to the last, as a part of the level in the middle."""
        first, last = self.values
        return (last - first) / ((first + last) / 2)


def fit_trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line that outliers do not bend: Theil and Sen's, the median of all slopes between two
    points, here of the medians of windows of ten seconds.

    Raises :exc:`ValueError` for less than two windows.
    """
    points = [
        (statistics.median(time for time, _ in window), statistics.median(v for _, v in window))
        for _, group in itertools.groupby(
            zip(times, values, strict=True), key=lambda point: point[0] // WINDOW_SECONDS
        )
        if (window := list(group))
    ]
    if len(points) < 2:
        raise ValueError(f"a trend takes two windows of {WINDOW_SECONDS:.0f} s or more")
    slope = statistics.median(
        (later[1] - point[1]) / (later[0] - point[0])
        for point, later in itertools.combinations(points, 2)
    )
    base = statistics.median(value - slope * time for time, value in points)
    first, last = times[0], times[-1]
    return Trend((first, last), (base + slope * first, base + slope * last))


def memory_trend(
    moments: Sequence[Moment], figure: Callable[[Moment], float], *, end: float
) -> Trend:
    """The trend of a figure from the warm-up's end to ``end``, the second at which the readers
    left."""
    counted = [moment for moment in moments if warm_up_seconds(end) <= moment.seconds <= end]
    return fit_trend([moment.seconds for moment in counted], [figure(moment) for moment in counted])


MEMORY: dict[str, Callable[[Moment], float]] = {
    "proxy": lambda moment: moment.proxy.rss_bytes,
    "engine": lambda moment: moment.engine.rss_bytes,
}
"""The processes whose resident memory must level off, and where it is told."""


def judge(
    baseline: Moment, moments: Sequence[Moment], *, end: float, violations: Sequence[str], log: str
) -> list[str]:
    """Return what did not hold, in words; nothing if all did.

    The last of ``moments`` is the one at which everything was to be at ``baseline`` again; ``end``
    is the second at which the readers left, ``log`` what the proxy has written to its stderr.
    """
    failures = [
        f"{name} is {count} above its baseline, {moments[-1].seconds - end:.0f} s after the end"
        for name, count in moments[-1].above(baseline).items()
    ]
    for process, figure in MEMORY.items():
        trend = memory_trend(moments, figure, end=end)
        if trend.growth >= MAX_GROWTH:
            failures.append(
                f"the {process}'s memory grew by {trend.growth:.1%} after the warm-up "
                f"({trend.values[0] / 2**20:.1f} to {trend.values[1] / 2**20:.1f} MiB)"
            )
    if violations:
        failures.append(f"{len(violations)} violations, the first: {violations[0]}")
    failures += [f"the proxy's log has {telltale!r}" for telltale in _TELLTALES if telltale in log]
    return failures
