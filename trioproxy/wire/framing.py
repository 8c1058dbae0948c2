"""How messages become bytes and bytes messages, whatever they mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trioproxy.wire.ndjson import NDJSONParser, encode_line
from trioproxy.wire.sse import Message, SSEParser, encode, encode_comment


class Parser(Protocol):
    """Turns the chunks of one stream into messages; `SSEParser` is one."""

    def feed(self, chunk: bytes) -> list[Message]:
        """Take the next bytes; return the messages that they complete. Raises `EventTooLarge`."""
        ...

    def finish(self) -> Message | None:
        """End the stream; return the message that was left without its proper end, if any."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """The framing of a stream.

    Attributes:
        media_type: of the stream, without parameters.
        content_type: the same with them, as a response's head tells it.
        parser: makes the parser of one stream, from the largest size in bytes of one event.
        encode: renders a message as a frame, with the event id (or None) to resume from.
        comment: renders a text that is for people and tools, and no event to any client; None where
            there is no such thing.
    """

    media_type: str
    content_type: str
    parser: Callable[[int], Parser]
    encode: Callable[[Message, bytes | None], bytes]
    comment: Callable[[bytes], bytes] | None = None


SSE = Framing(
    media_type="text/event-stream",
    content_type="text/event-stream; charset=utf-8",
    parser=SSEParser,
    encode=encode,
    comment=encode_comment,
)
"""Server-sent events."""

NDJSON = Framing(
    media_type="application/x-ndjson",
    content_type="application/x-ndjson",
    parser=NDJSONParser,
    encode=encode_line,
)
"""A line of JSON for each event. There is no room for ids or heartbeats in it."""
