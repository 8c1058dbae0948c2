"""Frames, encoded once for all tokens of a stream: a token then costs one concatenation.

A frame is written as the JSON that it is, with `HOLE` where something differs from token to token,
and is cut there once:

    before, after = cut_at_holes(event({"content": HOLE, "stop": False}))
    frame = before + json_string(" token") + after
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from trioproxy.wire.sse import Message, encode

_NUL = b"\0"  # never in JSON, which escapes it

HOLE = msgspec.Raw(_NUL)
"""The place of a value that is encoded later."""


def event(data: object, name: str | None = None) -> bytes:
    """Return the server-sent event that has this JSON as its data."""
    return encode(Message(name.encode() if name else None, msgspec.json.encode(data)))


def typed_event(data: Mapping[str, object]) -> bytes:
    """Return the server-sent event of this JSON, named after its `type`."""
    return event(data, str(data["type"]))


def line(data: object) -> bytes:
    """Return this JSON as a line of NDJSON."""
    return msgspec.json.encode(data) + b"\n"


def cut_at_holes(frame: bytes) -> list[bytes]:
    """Return the parts of a frame around its holes."""
    return frame.split(_NUL)


@lru_cache(maxsize=1024)  # more than there are words
def json_string(token: str) -> bytes:
    """Return a token as JSON."""
    return msgspec.json.encode(token)
