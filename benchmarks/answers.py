"""What a reader recorded, understood: the answer's status, and its events as they arrived.

Of HTTP/1.1 (RFC 9112) and server-sent events (WHATWG HTML, section 9.2) it knows what the measured
servers speak: a chunked body or one that the end of the connection delimits, and lines that end in
LF. It shares no code with what it helps to measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

DONE = "[DONE]"
"""The text of the event that ends an answer."""


class Event(NamedTuple):
    """One event. ``at`` is the ``time.time_ns()`` at which its last byte had been read, ``id`` its
    id as sent, ``text`` its token ("" where it has none); of data that is no chunk of an answer,
    all of it."""

    at: int
    id: str | None
    text: str

    @property
    def seq(self) -> int | None:
        """The number at the end of the id."""
        return None if self.id is None else int(self.id.rpartition(":")[2])


class Answer(NamedTuple):
    """``status`` is None where no head came; ``rest`` is what came of a frame that is not whole."""

    status: int | None
    events: list[Event]
    rest: bytes


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


_decoder = msgspec.json.Decoder(_Chunk)


def understand(pieces: Iterable[tuple[int, bytes]]) -> Answer:
    """Read the pieces of one connection. Raises :exc:`ValueError` for what is not HTTP."""
    status: int | None = None
    body: _Plain | _Chunked = _Plain()
    events: list[Event] = []
    head = rest = b""
    for at, data in pieces:
        if status is None:
            head, end, data = (head + data).partition(b"\r\n\r\n")
            if not end:
                continue
            status = int(head.split(b" ", 2)[1])
            body = _Chunked() if b"transfer-encoding: chunked" in head.lower() else _Plain()
        *frames, rest = (rest + body.feed(data)).split(b"\n\n")
        events += [event for frame in frames if (event := _event(at, frame))]
    return Answer(status, events, rest)


class _Plain:
    """A body that ends with the connection."""

    def feed(self, data: bytes) -> bytes:
        return data


class _Chunked:
    """A body in the chunked coding (RFC 9112, section 7.1), fed in any pieces."""

    def __init__(self) -> None:
        self._line = b""  # of a chunk's size, as far as it has come
        self._due = 0  # bytes of the chunk that have not come, its final CRLF among them

    def feed(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        while data:
            if not self._due:
                self._line, end, data = (self._line + data).partition(b"\r\n")
                if not end:
                    break
                self._due = int(self._line.partition(b";")[0], 16) + 2
                self._line = b""
            taken = data[: self._due]
            parts.append(taken[: max(0, self._due - 2)])
            self._due -= len(taken)
            data = data[len(taken) :]
        return b"".join(parts)


def _event(at: int, frame: bytes) -> Event | None:
    """The event of a frame; None for one that has no data, such as a comment."""
    event_id = data = None
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"id":
            event_id = value.decode()
        elif name == b"data":
            data = value if data is None else data + b"\n" + value
    return None if data is None else Event(at, event_id, _text(data))


def _text(data: bytes) -> str:
    try:
        choices = _decoder.decode(data).choices
    except msgspec.DecodeError:
        return data.decode()
    return "".join(choice.delta.content or "" for choice in choices)
