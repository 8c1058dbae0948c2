"""All clients: the listeners, the registry of connections, and their end."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework
from hypercorn.utils import wrap_app  # pyright: ignore[reportUnknownVariableType]

from trioproxy.net import DirectStream
from trioproxy.serving.connection import Connection
from trioproxy.serving.listener import ClientListener
from trioproxy.serving.listening import Listen
from trioproxy.serving.turnstile import Turnstile

TCP_HANDSHAKE_SECONDS = 0.5
"""How long TCP's handshakes that have begun get, where another process takes over. It must be less
than a second (see :mod:`trioproxy.serving.shared_port`)."""


class Server:
    """The connections that are open, and the way to end them. ``binds`` are the URLs that it
    listens on, with its ``listeners``."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        turnstile: Turnstile,
        *,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.binds: list[str] = []
        self.connections: set[Connection] = set()
        self._app = app
        self._config = config
        self._turnstile = turnstile
        self._ssl_context = ssl_context
        self._context = WorkerContext(None)
        self.listeners: Sequence[ClientListener] = ()
        self._listening = trio.CancelScope()
        self._listens_no_more = trio.Event()
        self._closed_one = trio.lowlevel.ParkingLot()

    @property
    def scheme(self) -> str:
        return "https" if self._ssl_context else "http"

    @property
    def is_draining(self) -> bool:
        """It has been announced that it is going."""
        return self._context.terminated.is_set()

    async def listen(self, listeners: Sequence[ClientListener], connections: trio.Nursery) -> None:
        """Serve who comes, each client as a task of ``connections``, until :meth:`stop_listening`.

        Closes the listeners, whatever ends it, and serves who had got in by then.
        """
        guarded = [self._turnstile.guard(listener) for listener in listeners]
        try:
            with self._listening:
                await trio.serve_listeners(self._serve_client, guarded, handler_nursery=connections)
        finally:
            for listener in listeners:
                for client in listener.waiting:
                    if self._turnstile.lets_in(client):
                        connections.start_soon(self._serve_client, client)
            self._listens_no_more.set()

    async def announce_end(self) -> None:
        """From now on each answer is the last on its connection, and says so."""
        await self._context.terminated.set()

    async def stop_listening(self) -> None:
        """Accept nobody from now on, and let each connection end with its response; an idle one
        has a last call (:meth:`Connection.call_last`).

        Who is in already is served. Where another process listens on the same port, this takes
        half a second, so that it gets who would be lost else.
        """
        await self.announce_end()
        turned_away = [listener.turn_away() for listener in self.listeners]
        if any(turned_away):
            await trio.sleep(TCP_HANDSHAKE_SECONDS)
        self._listening.cancel(reason="shutting down")
        await self._listens_no_more.wait()
        await trio.lowlevel.checkpoint()  # in which the last clients' tasks begin
        for connection in list(self.connections):
            connection.call_last()

    async def wait_closed(self) -> None:
        """Wait until no connection is open. If cancelled, nothing has changed."""
        while self.connections:
            await self._closed_one.park()
        await trio.lowlevel.checkpoint()

    def kill_all(self) -> None:
        """End every connection at once, the stuck ones too."""
        for connection in list(self.connections):
            connection.kill()

    async def _serve_client(self, client: DirectStream) -> None:
        connection = Connection(self._app, self._config, self._context, client, self._ssl_context)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self._turnstile.let_out(client)
            self._closed_one.unpark_all()


@asynccontextmanager
async def open_server(
    app: ASGIFramework, config: Config, listen: Listen, turnstile: Turnstile | None = None
) -> AsyncGenerator[Server]:
    """Listen and serve ``app`` for the length of the block; on exit every connection is killed.
    Without a ``turnstile`` everybody gets in.

    A graceful end is the caller's, before: :meth:`Server.stop_listening`, then time, then
    :meth:`Server.kill_all`. Raises :exc:`OSError`, in a group as all that leaves a nursery, where
    an address cannot be bound.
    """
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    turnstile = turnstile or Turnstile()
    server = Server(wrapped, config, turnstile, ssl_context=config.create_ssl_context())
    lifespan = Lifespan(wrapped, config, {})
    # Where its task is cancelled, hypercorn closes one end of that channel and not the other.
    with lifespan.app_receive_channel:
        async with trio.open_nursery() as lifespan_nursery:
            await lifespan_nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as nursery:
                server.listeners = listeners = listen()
                server.binds = [f"{server.scheme}://{listener.address}" for listener in listeners]
                nursery.start_soon(turnstile.see_off)
                nursery.start_soon(server.listen, listeners, nursery)
                try:
                    yield server
                finally:
                    server.kill_all()
                    nursery.cancel_scope.cancel(reason="the server is closed")
            await lifespan.wait_for_shutdown()
            lifespan_nursery.cancel_scope.cancel(reason="the server is closed")
