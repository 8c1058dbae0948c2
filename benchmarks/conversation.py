"""What the harness and the clients' process say to each other: JSON, a line each."""

from __future__ import annotations

import select
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar, Union

import msgspec

from benchmarks.processes import Process

T = TypeVar("T")


class Ready(msgspec.Struct, frozen=True):
    """How many clients have had an answer, or the first event of one; those that have not in time
    are not waited for."""

    clients: int


class Window(msgspec.Struct, frozen=True):
    """A time, in ``time.time_ns()``."""

    opened: int
    closed: int


class Conversation:
    """One end of a connection on which messages are exchanged."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")

    def say(self, message: msgspec.Struct) -> None:
        """Send a message. Raises :exc:`OSError` where the other has gone."""
        self._connection.sendall(msgspec.json.encode(message) + b"\n")

    def hear(self, *types: type[T], seconds: float | None = None) -> T:
        """Wait for a message of one of these types. Raises :exc:`TimeoutError` after so
        many seconds, and :exc:`ConnectionError` where the other has gone."""
        self._connection.settimeout(seconds)
        line = self._file.readline()
        if not line:
            raise ConnectionError("the other end has gone")
        return msgspec.json.decode(line, type=Union[types])  # noqa: UP007 - of any number

    def fileno(self) -> int:
        """The number of its socket."""
        return self._connection.fileno()

    def has_spoken(self) -> bool:
        """Whether the other has said something, or gone."""
        return bool(select.select([self], [], [], 0)[0])

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._connection.close()


@contextmanager
def talk_to(process: Process) -> Generator[Conversation]:
    """A conversation with a process that listens for one, for the length of the block."""
    connection = socket.create_connection((process.host, process.port))
    conversation = Conversation(connection)
    try:
        yield conversation
    finally:
        conversation.close()
