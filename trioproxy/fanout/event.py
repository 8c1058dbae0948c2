"""The nouns of a stream: what arrives, what a transcript keeps, what a subscriber is handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from trioproxy.fanout.outcome import Outcome
    from trioproxy.fanout.transcript import Transcript

Renderer = Callable[[str, "Event"], bytes]
"""Turns (generation id, event) into the bytes of one wire format. Compared by identity: one
function, one format."""


class Arrival(NamedTuple):
    """One message of a source, as it arrived. ``decides`` is the outcome that it settles, if it
    does."""

    name: bytes | None
    data: bytes
    decides: Outcome | None = None


class Event(NamedTuple):
    """One message of a generation.

    ``seq`` is dense and starts at 1. ``position`` is the number of payload bytes in the stream up
    to and with this event, so that the distance between two readers is one subtraction.
    """

    seq: int
    name: bytes | None
    data: bytes
    position: int


class Gap(NamedTuple):
    """Events ``first`` to ``last``, both included, that a subscriber will not get."""

    first: int
    last: int


@dataclass(slots=True, eq=False)
class Batch:
    """Everything new for one subscriber, oldest first; if there is a ``gap``, it lies before the
    events."""

    events: list[Event]
    gap: Gap | None
    _transcript: Transcript

    def render(self, renderer: Renderer) -> bytes:
        """The events in one wire format, as one piece of bytes."""
        return b"".join(self.frames(renderer))

    def frames(self, renderer: Renderer) -> list[bytes]:
        """The events in one wire format, each by itself. Each is rendered once, whoever asks first,
        and cached."""
        frame = self._transcript.frame
        return [frame(event, renderer) for event in self.events]
