"""What a supervisor and a worker tell each other, over a socket that both were born with.

A frame is a kind (one byte), a number, the length of what follows, and that. Either end says things
without being asked, and has one question, which the other answers.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

WORD = b"w"
"""Something that a service manager would be told (sd_notify(3))."""
FIGURES = b"f"
"""A worker's metrics, for the last time."""

_QUESTION, _ANSWER = b"?", b"="
_HEAD = struct.Struct("!cIQ")


class LineClosed(Exception):
    """The other end is gone."""


class Line:
    """One end. ``hear`` is called with the kind and the text of what the other says unasked, and
    ``answer`` is what a question is answered with; both are whoever's who reads, and may change
    until :meth:`run`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.hear: Callable[[bytes, bytes], None] = lambda kind, said: None
        self.answer: Callable[[], Awaitable[bytes]] = _nothing
        self._stream = stream
        self._send, self._outgoing = trio.open_memory_channel[bytes](float("inf"))
        self._unsent = 0
        self._sent = trio.lowlevel.ParkingLot()
        self._numbers = itertools.count()
        self._asked: dict[int, _Question] = {}
        self._is_closed = False

    async def run(self) -> None:
        """Hear and be heard, until the other end is gone or closed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            try:
                await self._read(nursery)
            finally:
                self._is_closed = True
                for question in self._asked.values():
                    question.answered.set()
            nursery.cancel_scope.cancel(reason="the line is closed")

    def say(self, kind: bytes, text: bytes) -> None:
        """Have something said. Never waits."""
        self._post(kind, 0, text)

    async def ask(self) -> bytes:
        """What the other end answers. Raises :class:`LineClosed`. If cancelled, nobody waits for
        the answer."""
        if self._is_closed:
            raise LineClosed
        number = next(self._numbers)
        question = self._asked[number] = _Question()
        self._post(_QUESTION, number, b"")
        try:
            await question.answered.wait()
        finally:
            del self._asked[number]
        if question.answer is None:
            raise LineClosed
        return question.answer

    async def flush(self) -> None:
        """Wait until all that was said has been sent, or cannot be. If cancelled, it may not have
        been."""
        while self._unsent and not self._is_closed:
            await self._sent.park()

    def _post(self, kind: bytes, number: int, text: bytes) -> None:
        if not self._is_closed:
            self._unsent += 1
            self._send.send_nowait(_HEAD.pack(kind, number, len(text)) + text)

    async def _write(self) -> None:
        async for frame in self._outgoing:
            with suppress(trio.BrokenResourceError):  # the reader sees it too
                await self._stream.send_all(frame)
            self._unsent -= 1
            self._sent.unpark_all()

    async def _read(self, nursery: trio.Nursery) -> None:
        received = bytearray()
        while True:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                return
            if not data:
                return
            received += data
            while len(received) >= _HEAD.size:
                kind, number, length = _HEAD.unpack_from(received)
                end = _HEAD.size + length
                if len(received) < end:
                    break
                text = bytes(received[_HEAD.size : end])
                del received[:end]
                self._take(nursery, kind, number, text)

    def _take(self, nursery: trio.Nursery, kind: bytes, number: int, text: bytes) -> None:
        if kind == _QUESTION:
            nursery.start_soon(self._reply, number)
        elif kind != _ANSWER:
            self.hear(kind, text)
        elif (question := self._asked.get(number)) is not None:
            question.answer = text
            question.answered.set()

    async def _reply(self, number: int) -> None:
        self._post(_ANSWER, number, await self.answer())


class _Question:
    """``answer`` is None until it is answered, and when it never will be."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: bytes | None = None


async def _nothing() -> bytes:  # noqa: ASYNC124 - it stands for one that waits
    return b""
