"""How things end: a generation by its outcome, a subscriber by that or its own eviction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["completed", "failed", "cancelled"]
EvictionReason = Literal["slow", "limit", "draining"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended. Exactly one, after the last event; the same object for every
    subscriber.

    ``reason`` is one word for machines, None for a completed generation. ``error`` is what a failed
    source raised. ``told`` says that the last event of the transcript is itself the upstream's
    report of the failure, so that nobody reports it a second time.
    """

    kind: Kind
    reason: str | None = None
    error: Exception | None = field(default=None, compare=False, repr=False)
    told: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Evicted:
    """Why one subscriber was sent away. The generation goes on without it."""

    reason: EvictionReason


COMPLETED = Outcome("completed")


def failed(reason: str, error: Exception | None = None, *, told: bool = False) -> Outcome:
    """The outcome of a source that could not be entered, broke off, or reported an error of its
    own."""
    return Outcome("failed", reason, error, told)


def cancelled(reason: str) -> Outcome:
    """The outcome of a generation that was ended from this side."""
    return Outcome("cancelled", reason)
