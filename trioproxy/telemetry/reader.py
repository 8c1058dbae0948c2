"""How one reader of a generation fares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trioproxy.fanout import EvictionReason

Joining = Literal["first", "late", "resume", "node"]


@dataclass(slots=True, eq=False)
class Reader:
    """How one subscriber fares. ``first_at`` is when it had been written its first event,
    ``caught_up_at`` when it had all that was there when it joined; ``lag`` is the most that it was
    behind, in bytes; ``deliveries`` the writes of live events to it, and ``delay`` the seconds
    from each event's coming to its end, in all; ``longest_delay`` is None for one that has been
    lent, since a pass of the pump is one observation for all."""

    joining: Joining
    joined_at: float
    joined_after: int
    history: int
    first_at: float | None = None
    caught_up_at: float | None = None
    left_at: float | None = None
    evicted: EvictionReason | None = None
    why: str | None = None
    cursor: int = 0
    lag: int = 0
    deliveries: int = 0
    delay: float = 0.0
    longest_delay: float | None = 0.0
    lent_since: tuple[int, float] | None = field(default=None, repr=False)
