"""All clients: the listening sockets, the registry of connections, and their end."""

from __future__ import annotations

import socket as stdlib_socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework
from hypercorn.utils import (
    repr_socket_addr,  # pyright: ignore[reportUnknownVariableType]
    wrap_app,  # pyright: ignore[reportUnknownVariableType]
)

from trioproxy.serving.connection import Connection
from trioproxy.serving.stream import ClientStream


class Server:
    """The connections that are open, and the way to end them. ``binds`` are the URLs that it
    listens on."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        *,
        write_timeout: float,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.binds: list[str] = []
        self.connections: set[Connection] = set()
        self._app = app
        self._config = config
        self._write_timeout = write_timeout
        self._ssl_context = ssl_context
        self._context = WorkerContext(None)
        self._listening = trio.CancelScope()
        self._closed_one = trio.lowlevel.ParkingLot()

    def bind(self) -> list[trio.SocketListener]:
        """Open the sockets; from here on the kernel lets clients in. Raises :exc:`OSError`."""
        return [trio.SocketListener(socket) for socket in self._open_sockets()]

    async def listen(self, listeners: list[trio.SocketListener], connections: trio.Nursery) -> None:
        """Serve who comes, each client as a task of ``connections``, until :meth:`stop_listening`.

        Closes the listeners, whatever ends it.
        """
        with self._listening:
            await trio.serve_listeners(self._serve_client, listeners, handler_nursery=connections)

    async def stop_listening(self) -> None:
        """Accept nobody from now on, close who is idle, and let each other connection end with
        its response."""
        self._listening.cancel(reason="shutting down")
        await self._context.terminated.set()
        for connection in list(self.connections):
            connection.close_if_idle()

    async def wait_closed(self) -> None:
        """Wait until no connection is open. If cancelled, nothing has changed."""
        while self.connections:
            await self._closed_one.park()
        await trio.lowlevel.checkpoint()

    def kill_all(self) -> None:
        """End every connection at once, the stuck ones too."""
        for connection in list(self.connections):
            connection.kill()

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        socket = stdlib_socket.socket(fileno=stream.socket.detach())
        client = ClientStream(socket, write_timeout=self._write_timeout)
        connection = Connection(self._app, self._config, self._context, client, self._ssl_context)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self._closed_one.unpark_all()

    def _open_sockets(self) -> list[trio.socket.SocketType]:
        scheme = "https" if self._ssl_context else "http"
        sockets = self._config.create_sockets()
        opened: list[trio.socket.SocketType] = []
        for socket in sockets.secure_sockets + sockets.insecure_sockets:
            _notice_dead_peers(socket, self._write_timeout)
            socket.listen(self._config.backlog)
            self.binds.append(f"{scheme}://{repr_socket_addr(socket.family, socket.getsockname())}")
            opened.append(trio.socket.from_stdlib_socket(socket))
        return opened


@asynccontextmanager
async def open_server(
    app: ASGIFramework, config: Config, *, write_timeout: float
) -> AsyncGenerator[Server]:
    """Listen and serve ``app`` for the length of the block; on exit every connection is killed.

    A graceful end is the caller's, before: :meth:`Server.stop_listening`, then time, then
    :meth:`Server.kill_all`. Raises :exc:`OSError`, in a group as all that leaves a nursery, where
    an address cannot be bound.
    """
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    server = Server(
        wrapped, config, write_timeout=write_timeout, ssl_context=config.create_ssl_context()
    )
    lifespan = Lifespan(wrapped, config, {})
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.listen, server.bind(), nursery)
            try:
                yield server
            finally:
                server.kill_all()
                nursery.cancel_scope.cancel(reason="the server is closed")
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel(reason="the server is closed")


def _notice_dead_peers(socket: stdlib_socket.socket, write_timeout: float) -> None:
    """Let the kernel end connections whose peer has vanished; accepted sockets inherit it
    (tcp(7))."""
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
    if hasattr(stdlib_socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, int(min(write_timeout * 1000, 2**31 - 1)))
        socket.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_USER_TIMEOUT, milliseconds)
