"""A reader as the proxy meets it: one TCP connection, one HTTP/1.1 request, and what came of it.

HTTP is h11's (RFC 9112), the stream is read by :class:`~trioproxy.wire.SSEParser`, and the socket
is in the reader's own hand, because a demonstration of leaving has to leave at a known instant, and
one of a stuck reader has to have a small receive buffer.
"""

import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import h11
import trio

from trioproxy.wire import OPENAI_COMPLETIONS, Message, SSEParser

PATH = "/v1/completions"

_RECEIVE_BYTES = 64 * 1024


class UnexpectedAnswer(Exception):
    """A request was answered with another status than 200."""


class Received(NamedTuple):
    """One event: its ``seq``, its message, and when it came (``trio.current_time()``, seconds)."""

    seq: int
    message: Message
    at: float


class Exchange:
    """One request on a connection of its own, made by :meth:`open`, and the body of its answer."""

    def __init__(self, sock: trio.socket.SocketType, name: str) -> None:
        self._socket = sock
        self._name = name
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(
        cls,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        receive_buffer: int | None = None,
    ) -> "Exchange":
        """Connect to the host and port of ``url`` (IPv4) and send the request.

        ``receive_buffer`` is the socket's SO_RCVBUF in bytes; None leaves it to the kernel. Raises
        :exc:`OSError`. If this fails or is cancelled, the socket is closed.
        """
        address = urlsplit(url)
        sock = trio.socket.socket()
        try:
            if receive_buffer is not None:  # before connecting: the handshake announces it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await sock.connect((address.hostname, address.port))
            exchange = cls(sock, f"{method} {address.path}")
            await exchange._send(
                method, address.path, {"Host": address.netloc, **(headers or {})}, body
            )
        except BaseException:
            sock.close()
            raise
        return exchange

    async def next_chunk(self) -> bytes | None:
        """Wait for the next piece of the body, as it came; None at its proper end.

        Raises :exc:`UnexpectedAnswer`, and where the body is cut :exc:`OSError` or
        :exc:`h11.RemoteProtocolError`; :exc:`trio.ClosedResourceError` after :meth:`close`. If
        cancelled, nothing was lost.
        """
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._socket.recv(_RECEIVE_BYTES))
            elif isinstance(event, h11.Response):
                if event.status_code != 200:
                    raise UnexpectedAnswer(f"{self._name} was answered with {event.status_code}")
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return None

    def close(self) -> None:
        """Close the socket at once. Idempotent."""
        self._socket.close()

    async def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        fields = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
        request = h11.Request(method=method, target=target, headers=list(fields.items()))
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        rest = memoryview(b"".join(self._http.send(part) or b"" for part in parts))
        while rest:
            rest = rest[await self._socket.send(rest) :]


async def fetch(url: str) -> bytes:
    """GET ``url`` and return the body. Raises as :meth:`Exchange.next_chunk` does.

    Whatever ends it, the connection is closed.
    """
    exchange = await Exchange.open("GET", url)
    try:
        body = bytearray()
        while (chunk := await exchange.next_chunk()) is not None:
            body += chunk
        return bytes(body)
    finally:
        exchange.close()


class Reader:
    """Asks for a completion and reads its stream.

    ``events`` are what it received, ``body`` the same as the bytes that came. ``complete`` is
    whether the stream came to its proper end, ``ended`` whether it is over, this way or another.
    """

    def __init__(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.events: list[Received] = []
        self.body = bytearray()
        self.complete = False
        self.ended = False
        self._url = url + PATH
        self._request = body
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._receive_buffer = receive_buffer
        self._exchange: Exchange | None = None
        self._parser = SSEParser()
        self._news = trio.lowlevel.ParkingLot()

    @property
    def last(self) -> int:
        """The ``seq`` of the latest event, 0 before the first."""
        return self.events[-1].seq if self.events else 0

    @property
    def seqs(self) -> list[int]:
        """The ``seq`` of every event, in the order in which they came."""
        return [event.seq for event in self.events]

    @property
    def event_id(self) -> str:
        """The id of the latest event, as ``Last-Event-ID`` wants it; "" before the first."""
        return self._parser.last_event_id.decode()

    @property
    def generation_id(self) -> str:
        """The generation that it reads; "" before the first event."""
        return self.event_id.rpartition(":")[0]

    @property
    def text(self) -> str:
        """The generated text so far."""
        return "".join(OPENAI_COMPLETIONS.text(event.message) for event in self.events)

    async def read(self, *, to: int | None = None) -> None:
        """Read to the end, or until event ``to`` has come; the first call connects.

        Returns as well where the stream is cut, or ended by :meth:`leave`: then ``ended`` is true
        and ``complete`` is not. Raises :exc:`UnexpectedAnswer`, and :exc:`OSError` where there is
        no connection. If cancelled, or whenever the stream is over, the socket is closed.
        """
        try:
            if self._exchange is None:
                self._exchange = await Exchange.open(
                    "POST",
                    self._url,
                    headers=self._headers,
                    body=self._request,
                    receive_buffer=self._receive_buffer,
                )
                if self.ended:  # it left while it was connecting
                    self.leave()
            while to is None or self.last < to:
                chunk = await self._next_chunk(self._exchange)
                if chunk is None:
                    self.leave()
                    return
                self.receive(chunk, trio.current_time())
        except BaseException:
            self.leave()
            raise

    async def wait_for(self, seq: int) -> None:
        """Wait until event ``seq`` is there or the stream over. If cancelled, nothing changed."""
        while self.last < seq and not self.ended:
            await self._news.park()

    def leave(self) -> None:
        """Close the socket at once, wherever the stream is. Idempotent."""
        self.ended = True
        if self._exchange is not None:
            self._exchange.close()
        self._news.unpark_all()

    def receive(self, chunk: bytes, at: float) -> None:
        """Take the next bytes of the stream, which came at this time (seconds)."""
        self.body += chunk
        # Line by line, because the parser tells only the latest id of what it is fed.
        for line in chunk.splitlines(keepends=True):
            for message in self._parser.feed(line):
                seq = int(self._parser.last_event_id.rpartition(b":")[2] or 0)
                self.events.append(Received(seq, message, at))
        self._news.unpark_all()

    async def _next_chunk(self, exchange: Exchange) -> bytes | None:
        try:
            chunk = await exchange.next_chunk()
        except (OSError, h11.RemoteProtocolError, trio.ClosedResourceError):
            return None
        self.complete = chunk is None
        return chunk
