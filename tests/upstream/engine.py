"""An engine that does what a test tells it to: a real socket, a script, and a note of when each
client left.

A script is an async function of one connection, its `Peer`. It reads and sends what it likes; when
it has returned, the engine reads on until the client leaves.
"""

import math
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from functools import cache

import trio
import trustme

WITHIN = 10.0
"""Seconds that a test with an engine may take: far more than any needs."""

AT_ONCE = 0.1
"""Seconds in which an engine must have seen that its client is gone."""

HEAD_OF_STREAM = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"

_NO_LINGER = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def events(*data: bytes) -> bytes:
    """One event for each data, in the framing of server-sent events."""
    return b"".join([b"data: %b\n\n" % one for one in data])


def whole_stream(*data: bytes) -> bytes:
    """A complete answer: head, an event for each data in a chunk of its own, `[DONE]`, the end."""
    return HEAD_OF_STREAM + b"".join(map(chunk, map(events, data))) + chunk(DONE) + LAST_CHUNK


class Peer:
    """One connection, as the engine sees it.

    Attributes:
        received: what the client has sent, after decryption.
        played: set when the script has returned.
        left: set when the client has closed or reset the connection.
        left_at: when that was seen, in seconds of `time.perf_counter`.
        session_reused: whether its TLS was resumed; None where it has none.
    """

    def __init__(self, tcp: trio.SocketStream) -> None:
        self.received = bytearray()
        self.played = trio.Event()
        self.left = trio.Event()
        self.left_at = math.inf
        self.session_reused: bool | None = None
        self._tcp = tcp
        self._stream: trio.abc.Stream = tcp

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        tls = trio.SSLStream(self._tcp, context, server_side=True, https_compatible=True)
        self._stream = tls
        await tls.do_handshake()
        self.session_reused = tls.session_reused

    async def receive(self) -> bytes:
        """The next bytes. Raises `trio.EndOfChannel` or `trio.BrokenResourceError` where the client
        left."""
        data = bytes(await self._stream.receive_some())
        if not data:
            raise trio.EndOfChannel
        self.received += data
        return data

    async def head(self) -> bytes:
        """The head of the request, as it came."""
        while b"\r\n\r\n" not in self.received:
            await self.receive()
        return bytes(self.received[: self.received.index(b"\r\n\r\n") + 4])

    async def request(self) -> bytes:
        """The whole request, its body as long as its Content-Length says."""
        head = await self.head()
        body_length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                body_length = int(value)
        while len(self.received) < len(head) + body_length:
            await self.receive()
        return bytes(self.received)

    async def send(self, *segments: bytes) -> None:
        """Send bytes as they are, each segment in a write of its own."""
        for segment in segments:
            await self._stream.send_all(segment)

    def finish(self) -> None:
        """Send a FIN, and nothing more (not even TLS's farewell)."""
        self._tcp.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._tcp.socket.close()

    async def play(self, script: "Script", tls: ssl.SSLContext | None) -> None:
        try:
            if tls is not None:
                await self.shake_hands(tls)
            await script(self)
            self.played.set()
            while True:
                await self.receive()
        except (trio.EndOfChannel, trio.BrokenResourceError):
            self.left_at = time.perf_counter()
            self.left.set()
        except trio.ClosedResourceError:
            self.played.set()  # the script closed the connection itself, as its last act
        finally:
            self._tcp.socket.close()


Script = Callable[[Peer], Awaitable[object]]


def play(*segments: bytes) -> Script:
    """The script of an engine that answers any request with these bytes, each segment in a write of
    its own."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(*segments)

    return answer


def play_and_finish(*segments: bytes) -> Script:
    """The same, and a FIN behind it."""

    async def answer(peer: Peer) -> None:
        await play(*segments)(peer)
        peer.finish()

    return answer


def play_each(*answers: bytes) -> Script:
    """The script of an engine that keeps its connection, and answers one request after the other.
    `received` is that of the last."""

    async def answer(peer: Peer) -> None:
        for one in answers:
            peer.received.clear()
            await peer.request()
            await peer.send(one)

    return answer


class Engine:
    """Listens, and plays its script to each connection. `peers` are these, in order."""

    def __init__(
        self, script: Script, listener: trio.SocketListener, tls: ssl.SSLContext | None
    ) -> None:
        self.peers: list[Peer] = []
        self.port: int = listener.socket.getsockname()[1]
        self._script = script
        self._listener = listener
        self._tls = tls
        self._arrive, self._arrivals = trio.open_memory_channel[Peer](math.inf)

    def url(self, scheme: str | None = None, *, host: str = "127.0.0.1") -> str:
        """Where it listens; as `https` where it speaks TLS, unless another scheme is given."""
        return f"{scheme or ('https' if self._tls else 'http')}://{host}:{self.port}"

    async def next_peer(self) -> Peer:
        """The next connection that nobody has been given yet."""
        return await self._arrivals.receive()

    async def serve(self) -> None:
        """Raises `trio.TooSlowError`, which fails the test, if it is not cancelled in time."""
        with trio.fail_after(WITHIN):
            async with self._listener, trio.open_nursery() as connections:
                while True:
                    peer = Peer(await self._listener.accept())
                    self.peers.append(peer)
                    self._arrive.send_nowait(peer)
                    connections.start_soon(peer.play, self._script, self._tls)


async def start_engine(
    nursery: trio.Nursery,
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Engine:
    """Start an engine that listens until the nursery is cancelled, in TLS if it has a context."""
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    engine = Engine(script, listener, tls)
    nursery.start_soon(engine.serve)
    return engine


@cache
def server_context() -> ssl.SSLContext:
    """TLS for an engine, with a certificate that `client_context` trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = _authority().issue_cert("127.0.0.1", "::1", "engine.test")
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


@cache
def client_context() -> ssl.SSLContext:
    """TLS for a client that trusts the engines of this module and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    return context


@cache
def _authority() -> trustme.CA:
    return trustme.CA()
