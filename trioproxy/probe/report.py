"""From what happened on a stream to its figures: arithmetic, and no clock."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

_TOGETHER = 0.001  # seconds
_BUNCHED_SHARE = 0.5
_FEWEST_TOKENS = 4  # fewer say nothing about how they flow


class Ending(StrEnum):
    """How a stream ended."""

    COMPLETED = "completed"  # with its terminal event, such as [DONE]
    TRUNCATED = "truncated"  # the body ended without a terminal event
    FAILED = "failed"  # an error event came
    REFUSED = "refused"  # the status is not 2xx
    BROKEN = "broken"  # the connection failed, or fell silent


class Arrival(NamedTuple):
    """A chunk of the body that completed events: when it came, and how many.

    `tokens` are those of the events that carry generated text.
    """

    at: float
    events: int
    tokens: int


@dataclass(slots=True)
class Trace:
    """What happens on one stream while it is read. Times are in seconds, on any one clock."""

    started: float = math.nan
    status: int | None = None
    head_at: float | None = None
    arrivals: list[Arrival] = field(default_factory=list[Arrival])
    bytes: int = 0
    ending: Ending = Ending.TRUNCATED
    detail: str = ""
    ended: float = math.nan


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured of one stream. Times are in seconds, from the start of the request.

    Attributes:
        status: of the response; None where none came.
        ending: how the stream ended, and `detail` what was said about that.
        head: until the head of the response; None where none came.
        ttft: until the first event; None where none came.
        duration: until the end.
        bytes: of the body.
        events: messages with data, the terminal one among them.
        tokens: events that carry text. In a stream without any, every event counts.
        rate: tokens per second from the first to the last; None where no time passed between them.
        gap_p50, gap_p99, gap_max: seconds from a token to the next, 0 within one chunk; percentiles
            by the nearest rank. None for fewer tokens than two.
        reads: how many times tokens came. A chunk that comes within 1 ms of the one before is of
            the same read, because the HTTP chunks of one read are handed out one after the other.
        bunched: the share, 0 to 1, of the tokens that shared their read with another.
        largest_burst: the most tokens in one read.
    """

    status: int | None
    ending: Ending
    detail: str
    head: float | None
    ttft: float | None
    duration: float
    bytes: int
    events: int
    tokens: int
    rate: float | None
    gap_p50: float | None
    gap_p99: float | None
    gap_max: float | None
    reads: int
    bunched: float
    largest_burst: int

    @property
    def is_telling(self) -> bool:
        """Whether there were enough tokens to tell how they flow."""
        return self.tokens >= _FEWEST_TOKENS

    @property
    def is_bunched(self) -> bool:
        """Whether it is telling, and most tokens shared their read."""
        return self.is_telling and self.bunched > _BUNCHED_SHARE


def measure(trace: Trace) -> Report:
    """Return the figures of a stream that has ended."""
    arrivals = trace.arrivals
    has_text = any(arrival.tokens for arrival in arrivals)
    times = [
        arrival.at
        for arrival in arrivals
        for _ in range(arrival.tokens if has_text else arrival.events)
    ]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    span = sum(gaps)
    reads = _tokens_per_read(gaps) if times else []
    return Report(
        status=trace.status,
        ending=trace.ending,
        detail=trace.detail,
        head=None if trace.head_at is None else trace.head_at - trace.started,
        ttft=arrivals[0].at - trace.started if arrivals else None,
        duration=trace.ended - trace.started,
        bytes=trace.bytes,
        events=sum(arrival.events for arrival in arrivals),
        tokens=len(times),
        rate=len(gaps) / span if span else None,
        gap_p50=_percentile(gaps, 50),
        gap_p99=_percentile(gaps, 99),
        gap_max=_percentile(gaps, 100),
        reads=len(reads),
        bunched=sum(tokens for tokens in reads if tokens > 1) / len(times) if times else 0.0,
        largest_burst=max(reads, default=0),
    )


def exit_code(reports: Sequence[Report]) -> int:
    """Return 0 if every stream completed and none is bunched, 1 otherwise."""
    well = (r.ending is Ending.COMPLETED and not r.is_bunched for r in reports)
    return 0 if all(well) else 1


def _tokens_per_read(gaps: Sequence[float]) -> list[int]:
    """Return how many tokens came in each read, from the gaps between the tokens."""
    reads = [1]
    for gap in gaps:
        if gap <= _TOGETHER:
            reads[-1] += 1
        else:
            reads.append(1)
    return reads


def _percentile(values: Sequence[float], percent: int) -> float | None:
    """Return the nearest-rank percentile: the least value that `percent` % do not exceed."""
    if not values:
        return None
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
