"""One client's HTTP/1.1 connection (RFC 9112): h11 for the protocol, on a non-blocking socket.

The socket is used without trio's stream on top, for one property: a write that the kernel takes at
once is synchronous. So the engine can write the last byte of an answer and decide that it completed
with no checkpoint in between, in which the client, having all that it wanted, might be seen to
leave.

No write is shielded. A client that stops reading blocks the task that writes to it, and nothing
else.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

import h11
import trio

from trioproxy.simulator.refusal import Refusal

_MAX_HEAD_BYTES = 64 << 10
_MAX_BODY_BYTES = 16 << 20
_READ_BYTES = 64 << 10
_LINGER = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """A whole request; header names in lower case, a repeated one's values joined by ", "."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A client's connection; it borrows the socket, which its owner closes.

    A request is read, answered with `respond` or with `start`, `write` and `finish`, and then the
    next one is read. Every write raises `trio.BrokenResourceError` when the client has left. If a
    write is cancelled, any part of it may have been sent: only closing is left.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._bodiless = False  # the answer to a HEAD

    async def next_request(self) -> HTTPRequest | None:
        """Read the next request; None when the connection is to be closed instead.

        Raises `Refusal` for a request that breaks HTTP (400, 431) or whose body is over 16 MiB
        (413). If it is cancelled, a part of the request may have been read.
        """
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        if self._h11.our_state is not h11.IDLE:
            return None
        try:
            return await self._read_request()
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, f"invalid HTTP request: {error}") from error

    async def respond(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with JSON, in one write."""
        answer = self._head(
            status,
            {
                "content-type": "application/json",
                "content-length": str(len(body)),
                **(headers or {}),
            },
        )
        await self._send(answer + self._body(body) + self._end())

    async def start(self, headers: Mapping[str, str]) -> None:
        """Write the head of a 200 whose body follows; chunked unless its length is a header."""
        await self._send(self._head(200, headers))

    async def write(self, data: bytes) -> None:
        """Write a part of the body. Not a checkpoint if the kernel takes it at once."""
        await self._send(self._body(data))

    async def finish(self, data: bytes = b"") -> None:
        """Write the last part of the body and its end in one; a checkpoint as `write` is."""
        await self._send(self._body(data) + self._end())

    async def wait_departure(self) -> None:
        """Return when the client has closed, half-closed or reset the connection.

        Meant to run beside the writing of an answer. What the client sends ahead meanwhile is kept
        for the next request, to 64 kB; a client that sends more is treated as gone, as nobody will
        read it.
        """
        while data := await self._receive():
            self._h11.receive_data(data)
            if len(self._h11.trailing_data[0]) > _MAX_HEAD_BYTES:
                return

    async def linger(self) -> None:
        """Wait until the client has read an early answer, for a second at most.

        Closing with unread input makes the kernel send a reset, which can overtake the answer (RFC
        9112, section 9.6).
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the client has left already
        with trio.move_on_after(_LINGER):
            while await self._receive():
                pass

    async def _read_request(self) -> HTTPRequest | None:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > _MAX_BODY_BYTES:
                raise Refusal(413, f"the body is larger than {_MAX_BODY_BYTES} bytes")
        self._bodiless = head.method == b"HEAD"
        path, _, query = head.target.decode("latin-1").partition("?")
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return HTTPRequest(head.method.decode("latin-1"), path, query, headers, bytes(body))

    async def _next_event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self._send(
                    self._encode(h11.InformationalResponse(status_code=100, headers=[]))
                )
            self._h11.receive_data(await self._receive())
        return event

    async def _receive(self) -> bytes:
        """Read what has come; b"" when the client has left, however it did."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    async def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                sent = self._socket.send(rest)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as error:
                raise trio.BrokenResourceError("the client has left") from error
            else:
                rest = rest[sent:]

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        fields = [("date", formatdate(usegmt=True)), *headers.items()]
        return self._encode(h11.Response(status_code=status, headers=fields))

    def _body(self, data: bytes) -> bytes:
        return b"" if self._bodiless else self._encode(h11.Data(data=data))

    def _end(self) -> bytes:
        return self._encode(h11.EndOfMessage())

    def _encode(self, event: h11.Event) -> bytes:
        return self._h11.send(event) or b""
