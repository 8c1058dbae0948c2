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
from typing import Literal

from trioproxy.wire.framing import Framing
from trioproxy.wire.sse import Message

MAX_TOKENS = 2**53
"""An upstream may tell any number; beyond this one not every reader of JSON reads it exactly, and
sums of them are no floats (RFC 8259, section 6)."""


class Verdict(Enum):
    """What one message decides about its stream."""

    COMPLETED = auto()
    """The terminal event: the answer is whole."""
    FAILED = auto()
    """An error that the upstream tells in-band."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, as one message tells them; None where it does not tell that one.

    A stream may tell them more than once, and each in a message of its own: what comes later
    counts.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def updated(self, later: "Usage") -> "Usage":
        """Return these counts with those in place that a later message told."""
        return Usage(
            self.prompt_tokens if later.prompt_tokens is None else later.prompt_tokens,
            self.completion_tokens if later.completion_tokens is None else later.completion_tokens,
        )


def usage_of(prompt_tokens: int | None, completion_tokens: int | None) -> Usage | None:
    """Return these counts, None where there are none. One below 0 or above `MAX_TOKENS` is none."""
    usage = Usage(_count(prompt_tokens), _count(completion_tokens))
    return None if usage == Usage() else usage


def _count(told: int | None) -> int | None:
    return told if told is not None and 0 <= told <= MAX_TOKENS else None


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of the proxy's own, to be told in a dialect.

    `status` is the HTTP status for when nothing has been sent yet; `type` is the machine-readable
    kind ("upstream_timeout"); `message` is for people; `code` refines the type and `param` names
    the request field at fault, where there is one. `retry_after` is when, in seconds, another try
    may do better, where that is known.
    """

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one API speaks on its streams.

    Attributes:
        name: the API and its endpoint, as "openai.chat".
        operation: what is asked for, as OpenTelemetry names it (`gen_ai.operation.name`).
        framing: how its messages become bytes.
        streams_by_default: whether a request that does not say so is streamed by the API itself.
        heartbeat: the frame that flows in silence; b"" where the dialect has none.
        closing: the messages that must follow an error which the upstream told in-band.
        verdict: what the message decides about its stream, None for most. On every event's path.
        text: the generated text that the message carries, of all its choices in order; "" if none.
        usage: the token counts that the message carries, or None.
        answer_id: the id by which the API's own routes name the answer, told by the message of
            that id's first mention; None for all others, and where an API names none.
        numbered: the data of an event with the number, from 0, that the API gives its events and
            this one lacks. None where the API has no such numbers.
        failure: the messages that tell a failure in-band, `closing` included, after so many events.
        error_body: the body of the HTTP response that tells a failure before the first byte.
    """

    name: str
    operation: Literal["chat", "text_completion"] = "chat"
    framing: Framing
    streams_by_default: bool = False
    heartbeat: bytes
    closing: tuple[Message, ...] = ()
    verdict: Callable[[Message], Verdict | None]
    text: Callable[[Message], str]
    usage: Callable[[Message], Usage | None]
    answer_id: Callable[[Message], str | None] = lambda message: None
    numbered: Callable[[bytes, int], bytes] | None = None
    failure: Callable[[Failure, int], tuple[Message, ...]]
    error_body: Callable[[Failure], bytes]

    @property
    def provider(self) -> str:
        """Whose API it is, as OpenTelemetry names it (`gen_ai.provider.name`)."""
        return self.name.partition(".")[0]
