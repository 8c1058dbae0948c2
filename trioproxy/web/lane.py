"""A client's express lane, as the sink of its subscriber."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol, cast

from trioproxy.fanout import Renderer
from trioproxy.web.connection import ProxyRequest
from trioproxy.web.voice import Voice

EXTENSION = "trioproxy.lane"
"""Where a lane is found among the extensions of an ASGI scope (ASGI, "Extensions")."""


class Lane(Protocol):
    """What the server lends to a response (its ``serving.express``): a write of whole chunks that
    does not wait."""

    @property
    def is_clear(self) -> bool: ...

    def write_nowait(self, data: bytes) -> int: ...

    async def flush(self) -> None: ...


def lane_of(request: ProxyRequest) -> Lane | None:
    """The lane of a request whose answer is chunked, which is HTTP/1.1's alone; None where the
    server has none."""
    if request.scope["http_version"] != "1.1":
        return None
    scope = cast("dict[str, Any]", request.scope)
    return scope["extensions"].get(EXTENSION)


def in_a_chunk(data: bytes) -> bytes:
    """The data as one chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def heartbeat_chunk(voice: Voice) -> bytes:
    return in_a_chunk(voice.heartbeat)


class LaneSink:
    """What a subscriber lends its generation while it is caught up."""

    def __init__(self, lane: Lane, voice: Voice, interval: float) -> None:
        self.render: Renderer = voice.render
        self.wrap = in_a_chunk
        self.heartbeat = heartbeat_chunk(voice)
        self.interval = interval
        self.write_nowait = lane.write_nowait
