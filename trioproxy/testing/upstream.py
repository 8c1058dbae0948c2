"""An upstream whose every byte the test decides: HTTP/1.1, on loopback or a virtual network."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import h11
import trio

WITHIN = 10.0
"""Seconds that a step may take unless the test says otherwise: far more than any needs."""

CallerStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
"""How a caller comes: as it is, or in TLS, whose handshake the first read makes."""

EVENT_STREAM = ("content-type", "text/event-stream")
CLOSE = ("connection", "close")
"""In each head: one connection is for one call."""


class UpstreamCall:
    """One request that reached the upstream, and the way to answer it.

    ``headers`` are as they came, names in lower case; ``body`` is without its framing.
    """

    def __init__(
        self,
        stream: CallerStream,
        connection: h11.Connection,
        request: h11.Request,
        body: bytes,
    ) -> None:
        self.method = request.method.decode()
        self.target = request.target
        self.headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        self.body = body
        self._stream = stream
        self._connection = connection
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._socket = transport.socket

    async def start(self, status: int = 200, *headers: tuple[str, str]) -> None:
        """Write the head of the answer: of a stream of events, unless headers are given."""
        head = h11.Response(status_code=status, headers=[*(headers or (EVENT_STREAM,)), CLOSE])
        await self._send(head)

    async def write(self, data: bytes) -> None:
        """Write a part of the body. If cancelled, some of it may be out."""
        await self._send(h11.Data(data=data))

    async def finish(self, data: bytes = b"") -> None:
        """Write the last part of the body, and its end."""
        if data:
            await self.write(data)
        await self._send(h11.EndOfMessage())

    async def respond(self, status: int, *headers: tuple[str, str], body: bytes = b"") -> None:
        """Write a whole answer, in one piece."""
        fields = [*headers, CLOSE, ("content-length", str(len(body)))]
        parts = [h11.Response(status_code=status, headers=fields), h11.Data(data=body)]
        sent = [self._connection.send(part) or b"" for part in (*parts, h11.EndOfMessage())]
        await self._stream.send_all(b"".join(sent))

    async def write_raw(self, data: bytes) -> None:
        """Write bytes that are no HTTP, or HTTP of the test's own making."""
        await self._stream.send_all(data)

    def cut(self) -> None:
        """Close the connection in the middle of whatever it is in."""
        self._socket.close()

    async def wait_departure(self, *, within: float = WITHIN) -> None:
        """Wait until the caller has closed the connection."""
        with trio.fail_after(within):
            try:
                while await self._stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                return  # by a reset

    async def _send(self, event: h11.Event) -> None:
        await self._stream.send_all(self._connection.send(event) or b"")


class ScriptedUpstream:
    """It answers nothing by itself. ``calls`` counts the requests that came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls = 0
        self._arrived, self._waiting = trio.open_memory_channel[UpstreamCall](math.inf)

    def __enter__(self) -> ScriptedUpstream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._arrived.close()
        self._waiting.close()

    async def next_call(self, *, within: float = WITHIN) -> UpstreamCall:
        """The oldest call that was not taken yet, waiting for one if need be."""
        with trio.fail_after(within):
            return await self._waiting.receive()

    async def serve_client(self, stream: CallerStream) -> None:
        """Read one request, hand it to the test, and keep its connection open for it."""
        async with stream:
            try:
                call = await _read_call(stream)
            except (
                h11.RemoteProtocolError,
                trio.BrokenResourceError,
                trio.ClosedResourceError,
            ):
                return  # the caller left in the middle of its request, or was cut off
            self.calls += 1
            self._arrived.send_nowait(call)
            await trio.sleep_forever()


async def _read_call(stream: CallerStream) -> UpstreamCall:
    connection = h11.Connection(h11.SERVER)
    events: list[h11.Event] = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Request | h11.Data | h11.EndOfMessage):
            events.append(event)
        else:
            raise h11.RemoteProtocolError("closed without a request")
    request, *parts = events
    assert isinstance(request, h11.Request)
    body = b"".join(part.data for part in parts if isinstance(part, h11.Data))
    return UpstreamCall(stream, connection, request, body)


@asynccontextmanager
async def open_upstream() -> AsyncGenerator[ScriptedUpstream]:
    """Listen for the length of the block; then every connection is closed."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listeners[0].socket.getsockname()
    upstream = ScriptedUpstream(f"http://{host}:{port}")
    with upstream:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, upstream.serve_client, listeners)
            yield upstream
            nursery.cancel_scope.cancel(reason="the upstream is closed")


def sse(*data: bytes) -> bytes:
    """Frames of unnamed events."""
    return b"".join(b"data: " + each + b"\n\n" for each in data)
