"""One HTTP exchange on a connection of its own, and the ways to leave it."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import h11
import trio

from benchmarks.soak.reading import Violation

SILENCE_SECONDS = 20.0
"""The longest silence that a reader bears: the proxy's heartbeats are far closer together."""

CLOSE_SECONDS = 5.0
"""How soon the proxy has to close a connection whose client has closed its half."""

READ_BYTES = 1 << 16
_NO_LINGER = struct.pack("ii", 1, 0)  # struct linger (socket(7)): on, for 0 seconds


class Exchange:
    """A request that was sent, and its answer (RFC 9112, by h11). Made by :func:`open_exchange`.

    Attributes:
        status: of the answer, once :meth:`read_head` has returned.
    """

    def __init__(self, client: trio.socket.SocketType) -> None:
        self._socket = client
        self._http = h11.Connection(h11.CLIENT)
        self._head: h11.Response | None = None

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send the request. If cancelled, a part of it may be out."""
        data = self._http.send(
            h11.Request(
                method=method,
                target=path,
                headers=[
                    ("host", "localhost"),
                    ("connection", "close"),
                    ("content-type", "application/json"),
                    ("content-length", str(len(body))),
                    *headers.items(),
                ],
            )
        )
        assert data is not None
        data += (self._http.send(h11.Data(data=body)) or b"") if body else b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self.send_bytes(data)

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are. Raises :class:`Violation` where they cannot be sent."""
        try:
            while data:
                data = data[await self._socket.send(data) :]
        except OSError as error:
            raise Violation(f"the request could not be sent: {error}") from error

    async def read_head(self) -> int:
        """Wait for the answer's head; return its status. Raises :class:`Violation`."""
        event = await self._next_event()
        if not isinstance(event, h11.Response):
            raise Violation(f"an answer that begins with {event}")
        self._head = event
        return event.status_code

    def header(self, name: str) -> str:
        """A header of the answer, "" if there is none by that (lower-case) name."""
        assert self._head is not None
        values = dict(self._head.headers)
        return values.get(name.encode(), b"").decode("latin-1")

    async def read(self) -> bytes | None:
        """The next bytes of the body, None at its proper end. Raises :class:`Violation` where it is
        cut, and after a silence of 20 s."""
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def read_all(self) -> bytes:
        """The rest of the body. Raises as :meth:`read` does."""
        body = b""
        while (data := await self.read()) is not None:
            body += data
        return body

    def close(self) -> None:
        """Leave by closing (which resets, where bytes have come that were not read)."""
        self._socket.close()

    def reset(self) -> None:
        """Leave by a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._socket.close()

    async def half_close(self) -> None:
        """Leave by closing our half; the proxy has to close its own within 5 s, or
        :class:`Violation` is raised."""
        with trio.move_on_after(CLOSE_SECONDS):
            try:
                self._socket.shutdown(socket.SHUT_WR)
                while await self._socket.recv(READ_BYTES):
                    pass
            except OSError:
                pass  # reset, which closes it too
            return
        raise Violation(f"still open {CLOSE_SECONDS} s after its client has closed its half")

    async def _next_event(self) -> h11.Event:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                with trio.fail_after(SILENCE_SECONDS):
                    self._http.receive_data(await self._socket.recv(READ_BYTES))
        except trio.TooSlowError:
            raise Violation(f"silence for {SILENCE_SECONDS} s") from None
        except (OSError, h11.RemoteProtocolError) as error:
            raise Violation(f"the answer was cut: {error}") from error
        assert isinstance(event, h11.Event)
        return event


async def _close(exchange: Exchange) -> None:
    exchange.close()
    await trio.lowlevel.checkpoint()


async def _reset(exchange: Exchange) -> None:
    exchange.reset()
    await trio.lowlevel.checkpoint()


DEPARTURES: tuple[Callable[[Exchange], Awaitable[None]], ...] = (
    _close,
    _reset,
    Exchange.half_close,
)
"""The ways in which a client leaves in the middle."""


@asynccontextmanager
async def open_exchange(
    address: tuple[str, int], *, receive_buffer: int | None = None
) -> AsyncGenerator[Exchange]:
    """Connect; the socket is closed when the block is left, however that happens.

    ``receive_buffer`` (bytes) makes a connection that is not read fill up soon. Raises
    :class:`Violation` where the proxy does not accept.
    """
    with trio.socket.socket() as client:
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await client.connect(address)
        except OSError as error:
            raise Violation(f"no connection: {error}") from error
        yield Exchange(client)
