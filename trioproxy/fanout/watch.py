"""How the core says what happens, to whoever wants to measure it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trioproxy.fanout.generation import Generation
    from trioproxy.fanout.subscriber import Subscriber


class Watch:
    """Is told what happens to one generation, in the step in which it happens.

    Here, every method does nothing. None may wait or raise: what watches has no part in what it
    sees. What is delivered is told for a whole pass of the pump, not for each reader.
    """

    def started(self) -> None:
        """It runs now, under an id that can be found."""

    def opened(self) -> None:
        """The head of its source has come."""

    def arrived(self, now: float) -> None:
        """The events of one read have been appended, at this moment of trio's clock."""

    def joined(self, subscriber: Subscriber, *, resumes: bool) -> None:
        """Its cursor is where it begins to read; ``resumes`` where it has read before."""

    def delivered(self, subscriber: Subscriber) -> None:
        """It comes for more: what it was handed has been written."""

    def lent(self, subscriber: Subscriber) -> None:
        """It is written to by the pump from now on."""

    def returned(self, subscriber: Subscriber) -> None:
        """It reads by itself again, or leaves."""

    def passed(self, number: int, seconds: float) -> None:
        """So many readers have been written to, so long after what was new had come."""

    def beat(self, number: int) -> None:
        """So many readers are sent a heartbeat, for they have waited in vain."""

    def left(self, subscriber: Subscriber) -> None:
        """It has left; ``subscriber.end`` says why, None that it was its own will."""

    def outlives(self) -> None:
        """It may outlive its last subscriber for as long as its ``linger`` says by now."""

    def ended(self) -> None:
        """Its outcome is decided."""

    def closed(self) -> None:
        """Its source has been left."""


def watch_nothing(generation: Generation) -> Watch:
    """For a hub that nobody watches."""
    return _NOBODY


WatchFactory = Callable[["Generation"], Watch]
"""Makes the watch of a generation."""

_NOBODY = Watch()
