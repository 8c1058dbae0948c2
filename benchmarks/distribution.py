"""A distribution, small enough to be told: its percentiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

PERCENT = 100


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values, in ascending order, that ``share`` of them do not exceed (nearest
    rank). Raises :exc:`IndexError` for no values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles(values: Iterable[float]) -> list[float]:
    """The least of the values and their 1st to 100th percentile; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return []
    return [percentile(ordered, rank / PERCENT) for rank in range(PERCENT + 1)]
