"""An engine that keeps every byte that reaches it, and answers with bytes that may be anything."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import trio


def answer(
    body: bytes, *headers: bytes, status: bytes = b"200 OK", kind: bytes = b"text/event-stream"
) -> bytes:
    """An answer that is sound but for what is put into it."""
    lines = [b"HTTP/1.1 " + status, b"content-type: " + kind, b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, *headers, b"", body])


SOUND = answer(b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n')


@dataclass(frozen=True)
class Received:
    """One request, as a server reads it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class RawEngine:
    """``answer`` is what each request is answered with, as soon as it is whole."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer = SOUND
        self.connections: list[bytearray] = []

    def requests(self) -> list[Received]:
        """What came so far: each connection must have brought exactly one request, or nothing,
        where the call was given up first."""
        return [_only_request(bytes(data)) for data in self.connections if data]

    async def serve(self, stream: trio.SocketStream) -> None:
        received = bytearray()
        self.connections.append(received)
        async with stream:
            try:
                while data := await stream.receive_some():
                    was_whole = _is_whole(received)
                    received += data
                    if _is_whole(received) and not was_whole:
                        await stream.send_all(self.answer)
            except trio.BrokenResourceError:
                return  # the proxy had enough


def _is_whole(data: bytearray) -> bool:
    head, end, body = bytes(data).partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def _only_request(data: bytes) -> Received:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    request = reader.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += event.data
    assert reader.trailing_data[0] == b"", "something came behind the request"
    return Received(request.method, request.target, list(request.headers), body)


@asynccontextmanager
async def open_engine() -> AsyncGenerator[RawEngine]:
    """Listen for the length of the block; then every connection is closed."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    engine = RawEngine("http://{}:{}".format(*listeners[0].socket.getsockname()))
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, engine.serve, listeners)
        yield engine
        nursery.cancel_scope.cancel(reason="the engine is closed")
