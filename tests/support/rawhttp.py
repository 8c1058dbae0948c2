"""A raw HTTP/1.1 client whose socket the test controls.

It sends what it is told, reads what it is told to read, and leaves as it is told to leave: closing,
half-closing or resetting in the middle of anything. Nothing is pooled, retried, redirected or
decompressed.

Every waiting method takes `within`, in seconds, and raises `trio.TooSlowError` past it. After that,
or after a cancellation, what was received is kept, and the same call can be made again.
"""

import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Literal, Self
from urllib.parse import urlsplit

import trio

from tests.support.response import Head, ResponseReader
from tests.support.sse import SseEvent, SseReader

WITHIN = 10.0
"""Seconds that a step may take unless the test says otherwise: far more than any needs."""

Closure = Literal["fin", "reset"]
"""How a server closes a connection: in order, or with a TCP reset."""

_RECEIVE_BYTES = 65536
_NO_LINGER = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds


class RawClient:
    """One TCP or TLS connection, made by `connect` or `open_client`."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        transport = stream if isinstance(stream, trio.SocketStream) else stream.transport_stream
        self._socket = transport.socket
        peer = self._socket.getpeername()  # of a Unix socket, the path
        self._authority = "proxy" if isinstance(peer, str) else "{}:{}".format(*peer)
        self._closure: Closure | None = None
        self._method = "GET"
        self._response = ResponseReader(self._method)
        self._sse = SseReader()
        self._events: deque[SseEvent] = deque()

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        ssl_context: ssl.SSLContext | None = None,
        rcvbuf: int | None = None,
        within: float = WITHIN,
    ) -> Self:
        """Open a connection to `host` (IPv4); TLS, handshake included, where a context is given.

        `rcvbuf` is the receive buffer in bytes (SO_RCVBUF; Linux doubles it), set before connecting
        because the handshake announces it: a client that stops reading needs a small one to be felt
        soon. The server's own send buffer, which may grow to megabytes, comes on top. If this fails
        or is cancelled, the socket is closed.

        Raises:
            OSError: the connection was refused.
            trio.BrokenResourceError: the TLS handshake failed.
        """
        sock = trio.socket.socket()
        try:
            if rcvbuf is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            with trio.fail_after(within):
                await sock.connect((host, port))
                tcp = trio.SocketStream(sock)
                if ssl_context is None:
                    return cls(tcp)
                tls = trio.SSLStream(tcp, ssl_context, server_hostname=host, https_compatible=True)
                await tls.do_handshake()
                return cls(tls)
        except BaseException:
            sock.close()
            raise

    @classmethod
    async def connect_unix(cls, path: str) -> Self:
        """Open a connection to a Unix socket. Raises as `connect`."""
        return cls(await trio.open_unix_socket(path))

    async def send(self, data: bytes, *, within: float = WITHIN) -> None:
        """Send bytes as they are. If cancelled or too slow, some of them may have gone out.

        Raises:
            trio.BrokenResourceError: the server has closed or reset the connection.
        """
        with trio.fail_after(within):
            await self._stream.send_all(data)

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        within: float = WITHIN,
    ) -> None:
        """Send one request: Host, Content-Length (with a body or a POST), and `headers` over them.

        Head and body go out in one write. The next response is read as the answer to `method`.
        """
        fields = {"host": self._authority}
        if body or method == "POST":
            fields["content-length"] = str(len(body))
        fields |= {name.lower(): value for name, value in (headers or {}).items()}
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
        self._method = method
        await self.send("\r\n".join(lines).encode("latin-1") + body, within=within)

    async def response_head(self, *, within: float = WITHIN) -> Head:
        """Read the head of the next response; 1xx responses are passed over.

        The previous response must have been read to its end.

        Raises:
            h11.RemoteProtocolError: this is no HTTP, or the server closed before the head's end.
            trio.BrokenResourceError: the connection was reset.
        """
        self._response = ResponseReader(self._method, self._response.unread)
        self._sse = SseReader()
        self._events.clear()
        with trio.fail_after(within):
            while (head := self._response.next_head()) is None:
                await self._receive()
        return head

    @property
    def address(self) -> tuple[str, int]:
        """Its own end of the connection: what the server knows it by."""
        return self._socket.getsockname()

    @property
    def head(self) -> Head:
        """The head that `response_head` has returned."""
        assert self._response.head is not None, "no response head has been read"
        return self._response.head

    @property
    def ended_properly(self) -> bool:
        """Whether the body was read to the end that its framing announced.

        False while it goes on, and for good if it was cut. A body that only the close of the
        connection delimits is complete at FIN and cut at a reset.
        """
        return self._response.body == "complete"

    async def chunk(self, *, within: float = WITHIN) -> bytes | None:
        """Read one chunk of the body as the server framed it, or None at the body's end.

        Without chunked framing a chunk is what has arrived. What came of a chunk that was cut is
        the last one; a cut raises nothing, see `ended_properly`.

        Raises:
            h11.RemoteProtocolError: the framing is broken.
        """
        with trio.fail_after(within):
            return await self._next_chunk()

    async def body(self, *, within: float = WITHIN) -> bytes:
        """Read the rest of the body, to its end or to where it was cut: see `ended_properly`."""
        received = bytearray()
        with trio.fail_after(within):
            while (chunk := await self._next_chunk()) is not None:
                received += chunk
        return bytes(received)

    async def next_event(self, *, within: float = WITHIN) -> SseEvent | None:
        """Read the body's next SSE event, or None at its end.

        An event that a cut leaves unfinished is dropped.

        Raises:
            MalformedStreamError: no correct server sends this (see `SseReader`), or the body ended
                properly, but inside an event.
        """
        with trio.fail_after(within):
            while not self._events:
                chunk = await self._next_chunk()
                if chunk is None:
                    if self.ended_properly:
                        self._sse.finish()
                    return None
                self._events.extend(self._sse.feed(chunk))
        return self._events.popleft()

    @property
    def comments(self) -> list[bytes]:
        """The SSE comments (heartbeats) that `next_event` has passed over in this body."""
        return self._sse.comments

    async def read_some(self, *, within: float = WITHIN) -> bytes:
        """Read the next bytes as they are on the wire, framing and all; none at EOF.

        What was received with a head and not parsed yet comes first. From here on the body at hand
        can only be read raw.

        Raises:
            trio.BrokenResourceError: the connection was reset.
        """
        if unread := self._response.unread:
            self._response = ResponseReader(self._method)
            return unread
        with trio.fail_after(within):
            return await self._receive_some()

    async def wait_closed(self, *, within: float = WITHIN) -> Closure:
        """Wait until the server closes the connection, and say how. What still comes is dropped."""
        with trio.fail_after(within):
            try:
                while await self._receive_some():
                    pass
            except trio.BrokenResourceError:
                return "reset"
        return "fin"

    def close(self) -> None:
        """Close the socket, with no TLS farewell; more than once is fine.

        As with any client, the kernel sends a reset in place of a FIN where received bytes are
        still unread.
        """
        self._socket.close()

    def reset(self) -> None:
        """Close the socket with a TCP reset (SO_LINGER of 0 seconds)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._socket.close()

    def half_close(self) -> None:
        """Send a FIN and go on reading (SHUT_WR)."""
        self._socket.shutdown(socket.SHUT_WR)

    async def _next_chunk(self) -> bytes | None:
        assert self.head, "a body follows its head"
        while (chunk := self._response.next_chunk()) == b"":
            await self._receive()
        return chunk

    async def _receive(self) -> None:
        try:
            self._response.feed(await self._receive_some())
        except trio.BrokenResourceError:
            if self._response.body != "open":
                raise
            self._response.cut()

    async def _receive_some(self) -> bytes:
        if self._closure is None:
            try:
                if data := bytes(await self._stream.receive_some(_RECEIVE_BYTES)):
                    return data
                self._closure = "fin"
            except trio.BrokenResourceError:
                # Remembered, because a socket that is read again after a reset tells of a FIN, and
                # a TLS stream after a FIN of a reset.
                self._closure = "reset"
        if self._closure == "reset":
            raise trio.BrokenResourceError("the server has reset the connection")
        return b""


@asynccontextmanager
async def open_client(
    url: str, *, ssl_context: ssl.SSLContext | None = None, rcvbuf: int | None = None
) -> AsyncGenerator[RawClient]:
    """Connect to the host and port of `url`; the client is closed when the block ends.

    `http://unix:/path` stands for a Unix socket. An `https` address wants an `ssl_context`. For
    `rcvbuf` see `RawClient.connect`.
    """
    if url.startswith("http://unix:"):
        client = await RawClient.connect_unix(url.removeprefix("http://unix:"))
    else:
        address = urlsplit(url)
        assert address.hostname is not None, f"no host in {url!r}"
        assert address.port is not None, f"no port in {url!r}"
        assert (address.scheme == "https") == (ssl_context is not None), f"TLS or not? {url!r}"
        client = await RawClient.connect(
            address.hostname, address.port, ssl_context=ssl_context, rcvbuf=rcvbuf
        )
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def post_stream(
    url: str, path: str, json_body: object, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[RawClient]:
    """POST `json_body` to `path` and hand over the client once a 200 with an SSE stream has begun.

    Raises:
        AssertionError: another status or content type; it shows what came in place of the stream.
    """
    fields = {"content-type": "application/json", "accept": "text/event-stream", **(headers or {})}
    async with open_client(url) as client:
        await client.request("POST", path, headers=fields, body=json.dumps(json_body).encode())
        head = await client.response_head()
        if head.status != 200 or "text/event-stream" not in head.headers.get("content-type", ""):
            raise AssertionError(f"no stream: {head} {(await client.body())!r}")
        yield client
