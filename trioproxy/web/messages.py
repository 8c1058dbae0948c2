"""What is said over a WebSocket, as JSON: the client's messages and the proxy's.

Each has a ``type``. A client may give a ``ref`` of its own with what it asks for; it comes back
with the answer.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trioproxy.fanout import Event, Evicted, Gap, Generation, Mode, Outcome
from trioproxy.wire import Failure

MAX_REF = 128
MAX_KEY = 512
MAX_PATH = 512
MAX_TOLD = 500
"""Characters of what comes back to a client, so that what waits to be sent has a bound."""

Ref = Annotated[str, Meta(max_length=MAX_REF)] | int | None
GenerationId = Annotated[str, Meta(max_length=MAX_REF)]


class Generate(msgspec.Struct, tag="generate", forbid_unknown_fields=True):
    """Start a generation, or join its running twin, and read it. ``key``, ``mode`` and ``linger``
    (seconds) are as in ``X-Generation-Key``, ``X-Fanout`` and ``X-Linger``."""

    path: Annotated[str, Meta(max_length=MAX_PATH)]
    body: msgspec.Raw
    ref: Ref = None
    key: Annotated[str, Meta(max_length=MAX_KEY)] | None = None
    mode: Mode | None = None
    linger: float | None = None


class Subscribe(msgspec.Struct, tag="subscribe", forbid_unknown_fields=True):
    """Read a generation that is there: from its start, after the event ``after``, or live."""

    generation: GenerationId
    after: int | None = None
    mode: Literal["replay", "live"] = "replay"
    ref: Ref = None


class Unsubscribe(msgspec.Struct, tag="unsubscribe", forbid_unknown_fields=True):
    """Read it no more."""

    generation: GenerationId
    ref: Ref = None


class Cancel(msgspec.Struct, tag="cancel", forbid_unknown_fields=True):
    """End a generation for everyone."""

    generation: GenerationId
    ref: Ref = None


class Ping(msgspec.Struct, tag="ping", forbid_unknown_fields=True):
    """Ask for a ``pong``."""

    ref: Ref = None


class Pong(msgspec.Struct, tag="pong", forbid_unknown_fields=True):
    """Answer to nothing; taken as a sign of life, for clients that send it."""

    ref: Ref = None


CacheStatus = Literal["miss", "join", "hit"]

Command = Generate | Subscribe | Unsubscribe | Cancel | Ping | Pong

_commands = msgspec.json.Decoder(Command)
_refs = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Garbage(ValueError):
    """A message that is no JSON object."""


class Misunderstood(ValueError):
    """A JSON object that is no command; ``ref`` is the one that it has."""

    def __init__(self, message: str, ref: Ref) -> None:
        super().__init__(message)
        self.ref: Ref = ref


def read_command(message: str) -> Command:
    """Read one message of a client. Raises :class:`Garbage` or :class:`Misunderstood`."""
    try:
        fields = _refs.decode(message)
    except (ValueError, RecursionError) as error:
        raise Garbage(f"not a JSON object: {error}") from None
    try:
        return _commands.decode(message)
    except (ValueError, RecursionError) as error:
        raise Misunderstood(str(error), _ref_of(fields)) from None


def _ref_of(fields: dict[str, msgspec.Raw]) -> Ref:
    try:
        return msgspec.json.decode(fields.get("ref", b"null"), type=Ref)
    except ValueError:
        return None


def render_event(generation_id: str, event: Event) -> bytes:
    """An event as a message. ``data`` is a string, as an ``EventSource`` has it; a byte that is no
    UTF-8 becomes U+FFFD."""
    return msgspec.json.encode(
        {
            "type": "event",
            "generation": generation_id,
            "seq": event.seq,
            "name": event.name and event.name.decode("utf-8", "replace"),
            "data": event.data.decode("utf-8", "replace"),
        }
    )


def started(generation: Generation, ref: Ref, cache: CacheStatus) -> bytes:
    """The answer to ``generate``."""
    return _encode("generation", ref, generation=generation.id, cache=cache)


def subscribed(generation: Generation, ref: Ref) -> bytes:
    """The answer to ``subscribe``."""
    return _encode("subscribed", ref, generation=generation.id)


def unsubscribed(generation_id: str, ref: Ref) -> bytes:
    """The answer to ``unsubscribe``: no event of it follows."""
    return _encode("unsubscribed", ref, generation=generation_id)


def cancelled(generation: Generation, ref: Ref) -> bytes:
    """The answer to ``cancel``, with the outcome that stands."""
    outcome = _outcome(generation.outcome)
    return _encode("cancelled", ref, generation=generation.id, outcome=outcome)


def pong(ref: Ref) -> bytes:
    """The answer to ``ping``."""
    return _encode("pong", ref)


def refused(failure: Failure, ref: Ref) -> bytes:
    """What was asked for cannot be had."""
    return _encode("error", ref, error=_error(failure))


def gap(generation: Generation, lost: Gap) -> bytes:
    """Events that this reader will not get."""
    return _encode("gap", None, generation=generation.id, first=lost.first, last=lost.last)


def ended(generation: Generation, end: Outcome, failure: Failure | None) -> bytes:
    """The last that is said of a generation: its outcome, and the error behind it."""
    error = failure and _error(failure)
    return _encode("end", None, generation=generation.id, outcome=_outcome(end), error=error)


def evicted(generation: Generation, end: Evicted, failure: Failure) -> bytes:
    """The last that is said of a generation to a reader that was sent away."""
    return _encode(
        "evicted", None, generation=generation.id, reason=end.reason, error=_error(failure)
    )


def _outcome(outcome: Outcome | None) -> dict[str, str | None] | None:
    return outcome and {"kind": outcome.kind, "reason": outcome.reason}


def _error(failure: Failure) -> dict[str, str | float | None]:
    error: dict[str, str | float | None] = {
        "message": failure.message[:MAX_TOLD],
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
        "status": failure.status,
    }
    if failure.retry_after is not None:
        error["retry_after"] = math.ceil(failure.retry_after * 1000) / 1000
    return error


def _encode(kind: str, ref: Ref, **fields: object) -> bytes:
    message: dict[str, object] = {"type": kind, **fields}
    if ref is not None:
        message["ref"] = ref
    return msgspec.json.encode(message)
