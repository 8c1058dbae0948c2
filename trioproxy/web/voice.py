"""How a reader is spoken to: what frames it gets for events, for silence, for a gap, at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import msgspec

from trioproxy.fanout import Event, Gap, Renderer
from trioproxy.wire import SSE, Dialect, Framing, Message, encode_comment


@dataclass(frozen=True, slots=True)
class Voice:
    """The frames of one kind of reader.

    ``heartbeat`` is b"" for one that must not be sent any. ``tell_gap`` frames a gap; None for
    clients that know no gaps: to them it is their dialect's error, and their end. ``ends_with_id``
    gives the last frame an event id one past the last event's, so that a reader that comes back
    with it is known to have been told the end. ``come_back`` goes before the last words of a proxy
    that is going: when to try again, for clients that know of such a thing.
    """

    framing: Framing
    render: Renderer
    heartbeat: bytes
    tell_gap: Callable[[Gap], bytes] | None = None
    ends_with_id: bool = False
    come_back: bytes = b""


@cache
def renderer_for(framing: Framing) -> Renderer:
    """How a framing shows an event: one function for each, so that its frames are cached once."""

    def render(generation_id: str, event: Event) -> bytes:
        event_id = f"{generation_id}:{event.seq}".encode()
        return framing.encode(Message(event.name, event.data), event_id)

    return render


@cache
def api_voice(dialect: Dialect) -> Voice:
    """How the API's own routes speak: nothing that its official clients would not expect."""
    return Voice(dialect.framing, renderer_for(dialect.framing), dialect.heartbeat)


def _gap_event(gap: Gap) -> bytes:
    data = msgspec.json.encode({"first": gap.first, "last": gap.last})
    return SSE.encode(Message(b"gap", data), None)


RESOURCE_VOICE = Voice(
    SSE,
    renderer_for(SSE),
    encode_comment(),
    tell_gap=_gap_event,
    ends_with_id=True,
    come_back=b"retry: 1000\n",  # milliseconds (WHATWG HTML, 9.2.6)
)
"""How ``/v1/generations/{id}/events`` speaks, whatever the dialect of the generation: as an
``EventSource`` understands it."""
