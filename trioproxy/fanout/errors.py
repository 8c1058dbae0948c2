"""What can go wrong in the core, and whose fault it was.

A caller's fault is raised at the call that caused it, before anything has changed. A source's fault
(:class:`SourceFailed`) never reaches a subscriber as an exception: it becomes the generation's
outcome.
"""

from __future__ import annotations


class FanoutError(Exception):
    """Base of every error that this package raises."""


class HubClosed(FanoutError):
    """The hub is draining or closed: it starts no further generation."""


class TooManyGenerations(FanoutError):
    """The tenant runs as many generations as it may; nothing was started."""


class TooManySubscribers(FanoutError):
    """The generation, or its tenant, has as many subscribers as it may; nobody joined."""


class HubFull(FanoutError):
    """The hub holds as much as it may of ``reason`` (``"generations"``, ``"memory"``), and all of
    it is running; nothing was started."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnknownGeneration(FanoutError):
    """No generation has, or lately had, this id."""


class ExpiredGeneration(FanoutError):
    """The generation with this id ended, and its retention is over: its events are gone. It was
    this ``tenant``'s."""

    def __init__(self, message: str, tenant: str) -> None:
        super().__init__(message)
        self.tenant = tenant


class CursorAhead(FanoutError):
    """The reader claims to have read an event that the generation has not yet had."""


class SourceFailed(FanoutError):
    """A source could not be entered, or broke off.

    ``reason`` is one word for machines (``"unreachable"``, ``"timeout"``, …); the message is for
    people. Sources raise a subclass that carries what their own callers need to know;
    ``held_bytes`` is what that amounts to, because it stays in memory with its generation.
    """

    held_bytes = 0

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TranscriptFull(SourceFailed):
    """The source said more than a transcript that must be kept whole may hold."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            "too_large", f"the answer is larger than the {max_bytes} bytes it may have"
        )
