"""How a WebSocket is closed, and what is said last of each generation that was read over it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from trioproxy.fanout import (
    Evicted,
    Generation,
    HubClosed,
    Outcome,
    TooManyGenerations,
    TooManySubscribers,
)
from trioproxy.web import messages
from trioproxy.web.failures import failure_of_end

MAX_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame's payload less the code."""


class CloseCode(IntEnum):
    """Why a WebSocket is closed (RFC 6455, section 7.4, and the registry that it founded)."""

    DONE = 1000
    POLICY = 1008
    DRAINING = 1012
    OVERLOAD = 1013
    SLOW = 4408


@dataclass(frozen=True, slots=True)
class Farewell:
    """The last thing that a session says."""

    code: CloseCode
    reason: str = ""

    @property
    def short_reason(self) -> str:
        """The reason in the size that a close frame has for it."""
        return self.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


class Closing(Exception):
    """What the client did ends the session."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.farewell = Farewell(code, reason)


def last_words(generation: Generation, end: Outcome | Evicted) -> bytes:
    """The message that tells how a generation, or the reading of it, has ended."""
    if isinstance(end, Evicted):
        return messages.evicted(generation, end, failure_of_end(end))
    failure = None if end.kind == "completed" else failure_of_end(end)
    return messages.ended(generation, end, failure)


def code_of_end(end: Outcome | Evicted) -> CloseCode:
    """The code for a WebSocket that was there for what has ended so."""
    match end.reason:
        case "slow":
            return CloseCode.SLOW
        case "draining" | "shutdown":
            return CloseCode.DRAINING
        case "limit":
            return CloseCode.POLICY
        case _:
            return CloseCode.DONE


def code_of_refusal(error: Exception) -> CloseCode:
    """The code for a WebSocket that was there for what cannot be had."""
    match error:
        case TooManySubscribers() | TooManyGenerations():
            return CloseCode.OVERLOAD
        case HubClosed():
            return CloseCode.DRAINING
        case _:
            return CloseCode.POLICY
