"""Many clients in one process that is not the bottleneck: plain sockets, epoll, no framework.

A reader only records what comes, and when. What that means is worked out once all is over
(``benchmarks.answers``), so that reading a token costs a system call and little else.
"""

from __future__ import annotations

import heapq
import itertools
import json
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self, TypeVar

READ_BYTES = 1 << 16
SMALL_BUFFER = 4096
LAST_CHUNK = b"0\r\n\r\n"
"""What a chunked body ends with (RFC 9112, section 7.1), and nothing else that comes here does."""
NO_LINGER = struct.pack("ii", 1, 0)  # struct linger (socket(7)): on, for 0 seconds


def chat_body(prompt: str, tokens: int) -> dict[str, object]:
    """What a request for a streamed chat completion has in its body."""
    return {
        "model": "simulated",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "stream": True,
    }


def request(
    prompt: str,
    tokens: int,
    headers: Mapping[str, str] | None = None,
    *,
    connection: str = "close",
) -> bytes:
    """A streamed chat completion, after which the server is to close, or to ``keep-alive``."""
    body = json.dumps(chat_body(prompt, tokens)).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\n"
        b"Connection: %b\r\n%bContent-Length: %d\r\n\r\n%b"
        % (connection.encode(), lines.encode(), len(body), body)
    )


class Reader:
    """One connection: it asks, and records what comes until the answer is over or it leaves.

    Attributes:
        pieces: what came, each with the ``time.time_ns()`` at which it was read.
        events: how many events came, roughly: one whose blank line was cut in two is missed.
        has_asked: the request has been sent.
        has_ended: the answer is over, or the connection is.
        left_at: ``time.time_ns()`` right before it closed the connection; None if it did not.
        error: why the connection failed; None if it did not.
    """

    interest = select.EPOLLIN
    """What it waits for once it has asked (epoll(7))."""

    def __init__(self, asking: bytes) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.events: int = 0
        self.has_asked = False
        self.has_ended = False
        self.left_at: int | None = None
        self.error: OSError | None = None
        self._tail = b""
        self._asking = asking
        self._socket = socket.socket()
        self._socket.setblocking(False)

    @property
    def is_done(self) -> bool:
        """Whether nothing more can come: it has left, or its connection has ended."""
        return self.has_ended or self.left_at is not None

    def connect(self, host: str, port: int) -> int:
        """Begin to connect; return the socket's number."""
        number = self._socket.fileno()
        try:
            self._socket.connect((host, port))
        except BlockingIOError:
            pass  # it is under way
        except OSError as error:
            self._end(error)
        return number

    def ask(self) -> None:
        """Send the request, which fits into the buffer of a new connection."""
        try:
            self._socket.sendall(self._asking)
        except OSError as error:
            self._end(error)
        else:
            self.has_asked = True

    def read(self, max_bytes: int = READ_BYTES) -> None:
        """Take in what has come."""
        try:
            data = self._socket.recv(max_bytes)
        except OSError as error:
            self._end(error)
            return
        if data:
            self.take(data)
        else:
            self._end(None)

    def take(self, data: bytes) -> None:
        """Record what was read."""
        self.pieces.append((time.time_ns(), data))
        self.events += data.count(b"\n\n")
        self._tail = (self._tail + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
        if self._tail == LAST_CHUNK:
            self._end(None)

    def leave(self) -> None:
        """Close the connection; no change if it is closed."""
        if not self.is_done:
            self.left_at = time.time_ns()
            self._socket.close()

    def reset(self) -> None:
        """Leave with a RST instead of a FIN."""
        if not self.is_done:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.leave()

    def _end(self, error: OSError | None) -> None:
        self.has_ended, self.error = True, error
        self._socket.close()


class StuckReader(Reader):
    """Asks, and never reads. Its receive buffer is small, so that the connection is full soon."""

    interest = 0

    def __init__(self, asking: bytes) -> None:
        super().__init__(asking)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)


T = TypeVar("T")


class HasFileno(Protocol):
    """What has a file descriptor."""

    def fileno(self) -> int: ...


class Loop:
    """Waits for many readers, and for moments: those of ``time.monotonic()``, in seconds.

    A context manager; on exit every reader has left.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Reader] = {}  # by socket number; one that is closed may linger
        self._actions: list[tuple[float, int, Callable[[], None]]] = []  # a heap
        self._order = itertools.count()  # of actions at the same moment

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for reader in self._readers.values():
            reader.leave()
        self._epoll.close()

    def connect(self, reader: Reader, host: str, port: int) -> None:
        """Let a reader connect, and ask as soon as it can."""
        number = reader.connect(host, port)
        if not reader.has_ended:
            self._readers[number] = reader
            self._epoll.register(number, select.EPOLLOUT)

    def wake_for(self, other: HasFileno) -> None:
        """Take a step, so that it is asked what holds, when there is something to read there."""
        self._epoll.register(other, select.EPOLLIN)

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Call the action at this moment, if the loop runs then, or as soon as it runs again."""
        heapq.heappush(self._actions, (moment, next(self._order), action))

    def run(self, until: Callable[[], bool], deadline: float) -> bool:
        """Run until the condition holds, asked after each step, or the deadline has passed; return
        whether it holds.

        Actions are called between two steps, never while readers read: a socket that an action
        opens may get the number of one that has just been closed.
        """
        while not (holds := until()) and (now := time.monotonic()) < deadline:
            if self._actions and self._actions[0][0] <= now:
                heapq.heappop(self._actions)[2]()
                continue
            wake = min(deadline, self._actions[0][0]) if self._actions else deadline
            for number, _ in self._epoll.poll(max(0.0, wake - time.monotonic())):
                if reader := self._readers.get(number):
                    self._step(number, reader)
        return holds

    def run_until_all(
        self, clients: Iterable[T], is_there: Callable[[T], bool], deadline: float
    ) -> bool:
        """Run until the condition has held of each client, or the deadline has passed; return
        whether it has."""
        missing = deque(clients)

        def all_there() -> bool:
            # Who is there stays there, so nobody is asked again.
            while missing and is_there(missing[0]):
                missing.popleft()
            return not missing

        return self.run(all_there, deadline)

    def _step(self, number: int, reader: Reader) -> None:
        if reader.has_asked:
            reader.read()
            return
        reader.ask()
        if not reader.has_ended:
            self._epoll.modify(number, reader.interest)
