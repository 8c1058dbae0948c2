"""How one API speaks, as data.

An API is a `Dialect` value: its framing (how bytes become messages and messages bytes) and its
meaning (which message carries text, which one ends the stream, how a failure is told). Whoever
holds a dialect never asks which one it is; another API is another module that builds one.

All functions of a dialect are pure. Those that read a message take whatever an upstream may send:
they never raise, and what cannot be understood is None or "".
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from trioproxy.wire.sse import Message


class Verdict(Enum):
    """What one message decides about its stream."""

    COMPLETED = auto()
    """The terminal event: the answer is whole."""
    FAILED = auto()
    """An error that the upstream tells in-band."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, as one message tells them. A stream may tell them more than once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of the proxy's own, to be told in a dialect.

    `status` is the HTTP status for when nothing has been sent yet; `type` is the machine-readable
    kind ("upstream_timeout"); `message` is for people; `code` refines the type and `param` names
    the request field at fault, where there is one.
    """

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None


class Parser(Protocol):
    """Turns the chunks of one stream into messages; `SSEParser` is one."""

    def feed(self, chunk: bytes) -> list[Message]:
        """Take the next bytes; return the messages that they complete. Raises `EventTooLarge`."""
        ...

    def finish(self) -> Message | None:
        """End the stream; return the message that was left without its proper end, if any."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one API speaks on its streams.

    Attributes:
        name: the API and its endpoint, as "openai.chat".
        media_type: of the stream, without parameters.
        parser: makes the parser of one stream, from the largest size in bytes of one event.
        encode: renders a message as a frame, with the event id (or None) to resume from.
        heartbeat: the frame that flows in silence; b"" where the dialect has none.
        closing: the messages that must follow an error which the upstream told in-band.
        verdict: what the message decides about its stream, None for most. On every event's path.
        text: the generated text that the message carries, of all its choices in order; "" if none.
        usage: the token counts that the message carries, or None.
        failure: the messages that tell a failure in-band, `closing` included.
        error_body: the body of the HTTP response that tells a failure before the first byte.
    """

    name: str
    media_type: str
    parser: Callable[[int], Parser]
    encode: Callable[[Message, bytes | None], bytes]
    heartbeat: bytes
    closing: tuple[Message, ...]
    verdict: Callable[[Message], Verdict | None]
    text: Callable[[Message], str]
    usage: Callable[[Message], Usage | None]
    failure: Callable[[Failure], tuple[Message, ...]]
    error_body: Callable[[Failure], bytes]
