"""When events came, held against the engine's schedule.

The engine keeps an absolute schedule: token ``i`` is due ``i / rate`` seconds after the first. So
the earliest arrival of all, less its place in the schedule, is when the schedule began, to within
the fastest delivery that was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

NANOSECONDS = 1e9
ROLE_CHUNKS = 1
"""What an answer has before its tokens."""

Stamps = Sequence[int]
"""Of one reader: a time in ns and the number of events that had come by then, in turns."""


@dataclass(frozen=True)
class Schedule:
    """Of one generation: ``tokens`` of them at ``rate`` per second from ``began``, in seconds since
    the epoch."""

    tokens: int
    rate: float
    began: float

    def due_at(self, token: int) -> float:
        """When this token, counted from 0, is due."""
        return self.began + token / self.rate


@dataclass
class Delivery:
    """What came in a window, all times in seconds.

    Attributes:
        events: how many came.
        delays: of each token that was due in the window and came to a reader, how late it was.
        leads: of each such token how late it was at the reader that had it first: so late had the
            server read it, at most.
        gaps: between the arrivals of two events of one reader, both in the window.
    """

    events: int = 0
    delays: list[float] = field(default_factory=list[float])
    leads: list[float] = field(default_factory=list[float])
    gaps: list[float] = field(default_factory=list[float])


def find_schedule(readers: Sequence[Stamps], tokens: int, rate: float) -> Schedule | None:
    """The schedule that the readers of one generation saw; None where no token came."""
    latest = tokens + ROLE_CHUNKS  # what comes with the last token has no place in the schedule
    began = min(
        (
            at / NANOSECONDS - (min(events, latest) - ROLE_CHUNKS - 1) / rate
            for stamps in readers
            for at, events in _reads(stamps)
            if events > ROLE_CHUNKS
        ),
        default=None,
    )
    return None if began is None else Schedule(tokens, rate, began)


def observe(
    readers: Sequence[Stamps], schedule: Schedule, window: tuple[float, float], into: Delivery
) -> None:
    """Add to the delivery what the readers of one generation were sent in the window, from its
    first moment to before its last, in seconds since the epoch."""
    opens, closes = window
    first: dict[int, float] = {}
    for stamps in readers:
        arrivals: list[float] = []
        for token, at in _arrivals(stamps):
            if opens <= at < closes:
                arrivals.append(at)
            if 0 <= token < schedule.tokens and opens <= (due := schedule.due_at(token)) < closes:
                into.delays.append(at - due)
                first[token] = min(at, first.get(token, at))
        into.events += len(arrivals)
        into.gaps += (after - before for before, after in pairwise(arrivals))
    into.leads += (at - schedule.due_at(token) for token, at in first.items())


def _reads(stamps: Stamps) -> Iterator[tuple[int, int]]:
    return zip(stamps[::2], stamps[1::2], strict=True)


def _arrivals(stamps: Stamps) -> Iterator[tuple[int, float]]:
    """Each event's token, which is less than 0 for the role, and when it came."""
    before = 0
    for at, events in _reads(stamps):
        for event in range(before, events):
            yield event - ROLE_CHUNKS, at / NANOSECONDS
        before = events
