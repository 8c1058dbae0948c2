"""The server's lanes: how they are found, and an express lane as the sink of its subscriber."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol, runtime_checkable

from trioproxy.fanout import Renderer
from trioproxy.web.voice import Voice

EXTENSION = "trioproxy.lane"
"""Where a lane is found among the extensions of an ASGI scope (ASGI, "Extensions")."""

_TEXT = 0x81
"""The first byte of a frame that is a whole message of text."""


class Lane(Protocol):
    """What the server lends to a response (its ``serving.express``): a write of whole chunks, or
    frames, straight to the client."""

    async def write(self, data: bytes) -> None: ...


@runtime_checkable
class ExpressLane(Lane, Protocol):
    """One with a write that does not wait."""

    @property
    def is_clear(self) -> bool: ...

    def write_nowait(self, data: bytes) -> int: ...

    async def flush(self) -> None: ...


def lane_of(scope: Mapping[str, Any]) -> Lane | None:
    """The lane of an ASGI scope; None where the server has none."""
    extensions: Mapping[str, Any] = scope["extensions"] or {}
    return extensions.get(EXTENSION)


def in_a_chunk(data: bytes) -> bytes:
    """The data as one chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def in_a_frame(text: bytes) -> bytes:
    """The text as one frame of a WebSocket, from server to client (RFC 6455, section 5.2)."""
    size = len(text)
    if size < 126:
        return bytes((_TEXT, size)) + text
    if size < 1 << 16:
        return struct.pack("!BBH", _TEXT, 126, size) + text
    return struct.pack("!BBQ", _TEXT, 127, size) + text


@cache
def heartbeat_chunk(voice: Voice) -> bytes:
    return in_a_chunk(voice.heartbeat)


class LaneSink:
    """What a subscriber lends its generation while it is caught up."""

    def __init__(self, lane: ExpressLane, voice: Voice, interval: float) -> None:
        self.render: Renderer = voice.render
        self.wrap = in_a_chunk
        self.heartbeat = heartbeat_chunk(voice)
        self.interval = interval
        self.write_nowait = lane.write_nowait
