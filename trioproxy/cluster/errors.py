"""What a broker cannot do, and whose fault it was.

What is told of a generation (:class:`NotRunning`, :class:`Fenced`, …) is the broker's answer:
nothing has changed. :class:`BrokerDown` is the absence of one: what was asked may have been done.
Every operation may be asked again, and comes to the same.
"""

from __future__ import annotations

from typing import Literal

State = Literal["running", "closing", "retired", "ended", "lost", "unknown"]
"""Of a generation in the broker: it can be joined; nobody was left to read it; it has ended, and
its owner keeps its log for who comes to ask; its log has its end; its owner's lease ran out; the
broker does not know it (any more)."""


class BrokerError(Exception):
    """Base of every error that this package raises."""


class BrokerDown(BrokerError):
    """The broker did not answer in time, or is not connected to."""


class BrokerFull(BrokerDown):
    """The broker answers, and has no memory for more. Nothing was done; wait as for one that is
    down."""


class BrokerRefused(BrokerError):
    """The broker answers and will not do it, now or later: it lacks a right, a setting, a
    version."""


class NotRunning(BrokerError):
    """The generation is in a ``state`` in which this cannot be done."""

    def __init__(self, state: State) -> None:
        super().__init__(f"the generation is {state}")
        self.state: State = state


class InterestLost(BrokerError):
    """The generation runs, and this node's interest in it had run out: to be joined again."""


class Fenced(BrokerError):
    """Another, higher ``fence`` holds: who asked is the owner no more, and writes nothing more."""

    def __init__(self, fence: int) -> None:
        super().__init__(f"fence {fence} holds")
        self.fence = fence


class LogBehind(BrokerError):
    """The broker has lost the end of a log. ``last`` is the last seq that it has: to be published
    again from there."""

    def __init__(self, last: int) -> None:
        super().__init__(f"the log ends with event {last}")
        self.last = last


class EntryTooLarge(BrokerError):
    """What was to be published is larger than an entry may be; nothing was done."""
