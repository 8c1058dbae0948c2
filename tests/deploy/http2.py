"""A client of HTTP/2 (RFC 9113) that sees each frame when it comes, and can leave one stream of a
connection that lives on, as a browser does."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.support.rawhttp import WITHIN

_RECEIVE_BYTES = 65536

_E = TypeVar("_E", bound=Event)


class Http2Client:
    """One connection, on which one request after the other is made."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], authority: str) -> None:
        self._stream = stream
        self._authority = authority
        self._h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._events: list[Event] = []
        self._stream_id = 0

    async def begin(self) -> None:
        """Open the connection of HTTP/2, on a TLS connection that must have agreed to it."""
        assert self._stream.selected_alpn_protocol() == "h2"
        self._h2.initiate_connection()
        await self._flush()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """Send a request that would take a compressed answer, of which nothing is awaited."""
        self._stream_id = self._h2.get_next_available_stream_id()
        fields = {
            ":method": method,
            ":scheme": "https",
            ":authority": self._authority,
            ":path": path,
            "accept-encoding": "gzip, deflate, br, zstd",
            **(headers or {}),
        }
        self._h2.send_headers(self._stream_id, list(fields.items()), end_stream=not body)
        if body:
            self._h2.send_data(self._stream_id, body, end_stream=True)
        await self._flush()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the answer."""
        response = await self._next(ResponseReceived)
        assert response is not None
        headers = {str(name): str(value) for name, value in response.headers}
        return int(headers.pop(":status")), headers

    async def receive(self) -> bytes | None:
        """What the next frame of the body holds; None at its end."""
        frame = await self._next(DataReceived)
        if frame is None:
            return None
        assert frame.flow_controlled_length is not None
        self._h2.acknowledge_received_data(frame.flow_controlled_length, self._stream_id)
        await self._flush()
        return frame.data

    async def read(self) -> bytes:
        """The rest of the body."""
        body = bytearray()
        while (piece := await self.receive()) is not None:
            body += piece
        return bytes(body)

    async def leave(self) -> None:
        """Give up the request (RST_STREAM). The connection lives on."""
        self._h2.reset_stream(self._stream_id, ErrorCodes.CANCEL)
        await self._flush()

    async def _next(self, kind: type[_E]) -> _E | None:
        """The next event of this kind of the request; None where its answer ends first."""
        with trio.fail_after(WITHIN):
            while True:
                while self._events:
                    event = self._events.pop(0)
                    if getattr(event, "stream_id", None) != self._stream_id:
                        continue
                    assert not isinstance(event, StreamReset), event
                    if isinstance(event, kind):
                        return event
                    if isinstance(event, StreamEnded):
                        return None
                received = await self._stream.receive_some(_RECEIVE_BYTES)
                assert received, "the server has closed the connection"
                self._events += self._h2.receive_data(bytes(received))
                await self._flush()

    async def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            await self._stream.send_all(data)


@asynccontextmanager
async def open_http2(port: int, trust: ssl.SSLContext) -> AsyncGenerator[Http2Client]:
    """A connection to `localhost`, for the length of the block."""
    async with await open_tls(port, trust) as stream:
        client = Http2Client(stream, f"localhost:{port}")
        await client.begin()
        yield client


async def open_tls(port: int, trust: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    """A TLS connection to `localhost`, its handshake done."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(tcp, trust, server_hostname="localhost", https_compatible=True)
    try:
        with trio.fail_after(WITHIN):
            await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream
