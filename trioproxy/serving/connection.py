"""One client: a task that reads what it sends, and a task for each request that answers it."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    Scope,
    TaskGroup,
)
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]

from trioproxy.net import DirectStream
from trioproxy.serving.express import ExpressLane, Lane
from trioproxy.serving.inbox import Inbox
from trioproxy.serving.protocol import Http11
from trioproxy.serving.websocket import WebSocketStream
from trioproxy.web.lane import EXTENSION

logger = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
CLOSE_SECONDS = 1.0
"""How long we listen to a client after our last byte, so that what it still sends does not reset
our answer."""


LAST_CALL_SECONDS = 0.5
"""How long, once the server has stopped listening, a client may still send a request that was on
its way: to close an idle connection at once is to lose what its client is just sending."""


class Connection:
    """One client's connection, from its first byte to its last.

    The connection's own task reads. When the client leaves (end of file, half-close, reset) it
    cancels the connection's scope, and with it every request of this client, in the same step. All
    waiting for the client is one number, the reader's deadline: none while a request is answered,
    ``keep_alive_timeout`` between requests, ``CLOSE_SECONDS`` after the last, ``LAST_CALL_SECONDS``
    for a request when the server is going. Writes are made by
    the request's task, are never shielded, and end with the connection where the client takes no
    byte.

    An exception in here ends this connection and no other.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        client: DirectStream,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.peer: tuple[str, int] | None = None
        """The client's address; None before it is served, and where its kind of socket has none."""
        self._app = app
        self._config = config
        self._context = context
        self._client = client
        self._ssl_context = ssl_context
        self._stream: trio.abc.Stream = client
        self._writing = trio.Lock()
        self._reading = trio.CancelScope()
        self._deadline = math.inf
        self._closing = False
        self._last_was_called = False
        self._turn_has_come = False
        self._nursery: trio.Nursery
        self._protocol: Http11 | None = None

    def call_last(self) -> None:
        """End the connection in ``LAST_CALL_SECONDS``, unless a request is under way then: that is
        answered, and the connection ends with it."""
        self._last_was_called = True
        if self._protocol is None or self._protocol.is_idle:
            last_call = trio.current_time() + LAST_CALL_SECONDS
            self._deadline = self._reading.deadline = min(self._deadline, last_call)

    def kill(self) -> None:
        """End the connection at once, whatever it is doing: its socket is closed, its tasks are
        cancelled."""
        self._client.kill()
        self._nursery.cancel_scope.cancel(reason="the connection was killed")

    async def run(self) -> None:
        """Serve the client until it or we leave. On return its tasks are gone and its socket is
        closed."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._serve()
                self._nursery.cancel_scope.cancel(reason="the client has left")
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("a client left in the middle", exc_info=True)
        except* Exception:
            logger.exception("a connection crashed")
        finally:
            if self._protocol is not None and self._protocol.end_would_pass_for_whole:
                self._client.kill()
            else:
                self._client.close()

    async def _serve(self) -> None:
        if self._ssl_context is not None and not await self._shake_hands(self._ssl_context):
            return
        socket = self._client.socket
        self.peer = parse_socket_addr(socket.family, socket.getpeername())
        self._protocol = protocol = Http11(
            self._app,
            self._config,
            self._context,
            cast(TaskGroup, self),  # the two methods of it that HTTP/1.1 uses
            ConnectionState({}),
            self._ssl_context is not None,
            self.peer,
            parse_socket_addr(socket.family, socket.getsockname()),
            self._send,
        )
        self._wait_for_client(self._patience(self._config.keep_alive_timeout))
        while True:
            data = b""
            with trio.CancelScope(deadline=self._deadline) as self._reading:
                data = await self._receive()
            if self._turn_has_come:
                self._turn_has_come = False
                await protocol.take_up_next()
            elif not data:
                return
            if data and not self._closing:
                await protocol.handle(RawData(data))

    async def _receive(self) -> bytes:
        """What the client sent; b"" where it has left, in whatever way."""
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _shake_hands(self, context: ssl.SSLContext) -> bool:
        stream = trio.SSLStream(self._client, context, server_side=True, https_compatible=True)
        self._wait_for_client(self._patience(self._config.ssl_handshake_timeout))
        with trio.CancelScope(deadline=self._deadline) as self._reading:
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError:
                return False
            self._stream = stream
        return self._stream is stream

    def _patience(self, seconds: float) -> float:
        """How long a new client is waited for: ``seconds``, or less after the last call."""
        return min(seconds, LAST_CALL_SECONDS) if self._last_was_called else seconds

    def _wait_for_client(self, seconds: float) -> None:
        self._deadline = self._reading.deadline = trio.current_time() + seconds

    # -- what the protocol asks of us --------------------------------------------------------------

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if event.data:
                await self._write(event.data)
        elif isinstance(event, Updated):
            self._wait_for_client(self._config.keep_alive_timeout if event.idle else math.inf)
            if event.idle and self._protocol is not None and self._protocol.has_bytes_ahead:
                self._turn_has_come = True
                self._reading.cancel(reason="the next request is here already")
        elif isinstance(event, Closed):
            self._close()

    async def _write(self, data: bytes) -> None:
        try:
            self._writing.acquire_nowait()
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # Nobody is there to be answered: the request ends here, not at some later checkpoint.
            self._nursery.cancel_scope.cancel(reason="the client takes no more bytes")
            await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            self._writing.release()

    def _close(self) -> None:
        if self._protocol is not None and self._protocol.end_would_pass_for_whole:
            self.kill()
            return
        # Over TLS the end of the answer cannot be told apart from a cut; the framing has told it.
        self._closing = True
        if self._stream is self._client:
            self._client.send_eof()
            self._wait_for_client(CLOSE_SECONDS)
        else:
            assert self._protocol is not None
            self._wait_for_client(0 if self._protocol.has_whole_request else CLOSE_SECONDS)

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the task that answers one request; returns how to hand it what the client sends."""
        inbox = Inbox(config.max_app_queue_size)
        if (lane := self._lane(scope)) is not None:
            scope["extensions"] = {**(scope["extensions"] or {}), EXTENSION: lane}  # type: ignore
        self._nursery.start_soon(self._answer, app, scope, inbox, send)
        return inbox.put

    def _lane(self, scope: Scope) -> Lane | None:
        if scope["type"] == "websocket":
            assert self._protocol is not None
            stream = self._protocol.stream
            assert isinstance(stream, WebSocketStream)
            return Lane(stream.write_frames)
        if scope["type"] != "http" or scope["http_version"] != "1.1":
            return None  # chunked bodies are HTTP/1.1's alone
        if self._stream is self._client:
            return ExpressLane(self._client, self._writing, self._write)
        return Lane(self._write)

    def spawn(self, func: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Start a task of the protocol's own (a WebSocket's pings)."""
        self._nursery.start_soon(func, *args)

    async def _answer(
        self,
        app: AppWrapper,
        scope: Scope,
        inbox: Inbox,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        try:
            await app(scope, inbox.take, send, trio.to_thread.run_sync, trio.from_thread.run)
        except* Exception:
            logger.exception("the application crashed")
        finally:
            inbox.close()
        await send(None)
