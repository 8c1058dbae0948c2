"""A source that says what a test tells it to, when the test tells it to."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import NamedTuple

import trio

from trioproxy.fanout import COMPLETED, Arrival

DONE = Arrival(None, b"[DONE]", COMPLETED)
"""The message that completes a stream."""


class Passage(NamedTuple):
    """One entry or exit: when (seconds of the run's clock), in which task, and, for an exit, with
    which exception."""

    at: float
    task: trio.lowlevel.Task
    error: BaseException | None = None


class ScriptedSource:
    """A `Source` and its `Feed` in one. It touches nothing, and remembers who came and went.

    `arrive`, `fail` and `end` are plain calls that may come before it is entered. `entering` and
    `leaving` are awaited on the way in and out: `trio.sleep_forever` or an event's `wait` blocks
    there, a function that raises fails there. `entries` and `exits` tell each passage; an entry
    that fails or is cancelled counts as left.
    """

    def __init__(
        self,
        *,
        head: object = "head",
        entering: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
        leaving: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    ) -> None:
        self.head = head
        self.entries: list[Passage] = []
        self.exits: list[Passage] = []
        self._entering = entering
        self._leaving = leaving
        self._script: deque[Sequence[Arrival] | Exception] = deque()
        self._has_ended = False
        self._reader = trio.lowlevel.ParkingLot()

    @property
    def is_open(self) -> bool:
        """Whether it was entered and has not been left yet."""
        return len(self.entries) > len(self.exits)

    def arrive(self, *messages: bytes | Arrival) -> None:
        """Let one read bring these messages; bytes stand for a nameless message that decides
        nothing."""
        arrivals = [Arrival(None, item) if isinstance(item, bytes) else item for item in messages]
        self._say(arrivals)

    def complete(self, *messages: bytes | Arrival) -> None:
        """Let one read bring these messages and the one that completes the stream, and let the body
        end there."""
        self.arrive(*messages, DONE)
        self.end()

    def fail(self, error: Exception) -> None:
        """Let the next read raise `error`."""
        self._say(error)
        self.end()

    def end(self) -> None:
        """Let the body end after what was scripted so far."""
        self._has_ended = True
        self._reader.unpark_all()

    def _say(self, read: Sequence[Arrival] | Exception) -> None:
        assert not self._has_ended, "it was scripted to its end"
        self._script.append(read)
        self._reader.unpark_all()

    async def __aenter__(self) -> ScriptedSource:
        self.entries.append(_passage())
        try:
            await self._entering()
        except BaseException as error:
            self.exits.append(_passage(error))
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._leaving()
        finally:
            self.exits.append(_passage(error))

    def __aiter__(self) -> ScriptedSource:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        await trio.lowlevel.checkpoint()
        while not (self._script or self._has_ended):
            await self._reader.park()
        if not self._script:
            raise StopAsyncIteration
        read = self._script.popleft()
        if isinstance(read, Exception):
            raise read
        return read


def _passage(error: BaseException | None = None) -> Passage:
    return Passage(trio.current_time(), trio.lowlevel.current_task(), error)
