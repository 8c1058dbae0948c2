"""The whole: hub, upstream, routes and server, opened in order and shut down in reverse."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config

from trioproxy.config import TOO_OPEN, ConfigError, Settings
from trioproxy.serving.connection import LAST_CALL_SECONDS
from trioproxy.serving.front import Front
from trioproxy.serving.inherited import listen_on_inherited, take_inherited
from trioproxy.serving.listener import KernelListener
from trioproxy.serving.listening import Listen, listen
from trioproxy.serving.notifying import open_notifier
from trioproxy.serving.reloading import reload_on
from trioproxy.serving.server import Server, open_server
from trioproxy.serving.turnstile import Turnstile
from trioproxy.telemetry import GenerationLog, Listener, LogWriter, Metrics, Telemetry
from trioproxy.web import Holdings, create_app, open_holdings
from trioproxy.wire import Failure

if TYPE_CHECKING:
    from trioproxy.serving.supervising import Place

FIXED = (
    *("bind", "reuse_port", "workers", "certfile", "keyfile", "write_timeout", "heartbeat"),
    *("log", "traces"),
    *("cluster", "cluster_publish", "cluster_lease", "cluster_down", "cluster_patience"),
)
"""The settings that were used up when the proxy began."""

FAREWELL_SECONDS = 1.0
"""How long, after the drain, clients get to take the message that it is over."""

PLACING_SECONDS = 1.0
"""How long a request that came at the last moment may take to become a call: to be read, counted,
and placed among all nodes."""

KEEP_ALIVE_SECONDS = 15.0
"""Between two requests, and for the first: longer than the official clients keep a connection (5
s)."""
TLS_HANDSHAKE_SECONDS = 10.0
BACKLOG = 4096
GARBAGE_AT_ONCE = 10_000
"""Objects that are made before the collector looks at them; Python's own 700 cost a tenth of the
time in a storm."""
LOOKS_AT_THE_YOUNG = 2
"""After so many looks it looks at what outlived them too. With Python's own 10 and the number
above, a request that was under way would be kept for a quarter of an hour."""


class Proxy:
    """A proxy that listens. ``binds`` are its URLs."""

    def __init__(
        self,
        settings: Settings,
        holdings: Holdings,
        front: Front,
        server: Server,
        bound: Callable[[Settings], None],
    ) -> None:
        self.settings = settings
        self.hub = holdings.hub
        self.roster = holdings.roster
        self.server = server
        self._holdings = holdings
        self._front = front
        self._bound = bound

    @property
    def binds(self) -> list[str]:
        return self.server.binds

    def configure(self, settings: Settings) -> list[str]:
        """Let these settings hold from now on: for the next request, of whatever connection, what
        is asked for next over a WebSocket, and the next generation. What runs goes on as it began.

        Returns the names of those that have changed and cannot: they hold after a restart. Raises
        :class:`~trioproxy.config.ConfigError`, with nothing changed, where they would let anybody
        in, or name no engine any more.
        """
        if settings.is_simulated and not self.settings.is_simulated:
            raise ConfigError("upstream: expected an engine, as there was one")
        for listener in self.server.listeners:
            if not settings.may_listen_on(listener.address):
                raise ConfigError(f"{listener.address} {TOO_OPEN}")
        app = create_app(settings, self._holdings)
        later = [name for name in FIXED if getattr(settings, name) != getattr(self.settings, name)]
        self._holdings.configure(settings)
        self._bound(settings)
        self._front.app = app
        self.settings = settings
        return later

    async def shutdown(self) -> None:
        """Stop in good order: say so for ``drain_delay`` seconds, accept nobody, let what runs
        finish for ``drain`` seconds, tell the rest, end them.

        A call whose client is in by then is made; one that comes later, over a connection that is
        busy, is refused. Takes ``drain_delay`` + ``drain`` + 1.5 seconds at most, whatever the
        clients do. If cancelled, what is left is ended by the exit of :func:`open_proxy`.
        """
        await self.server.announce_end()
        await trio.sleep(self.settings.drain_delay)
        await self.server.stop_listening()
        self._holdings.board_hub.close()
        with trio.move_on_after(self.settings.drain):
            with trio.move_on_after(LAST_CALL_SECONDS + PLACING_SECONDS):
                await self.server.wait_closed()
            self.hub.refuse()
            await self.hub.wait_idle()
            await self.server.wait_closed()
        self.hub.close()
        with trio.move_on_after(FAREWELL_SECONDS):
            await self.server.wait_closed()
        self.server.kill_all()


@asynccontextmanager
async def open_proxy(
    settings: Settings,
    *,
    upstream_url: str | None = None,
    listen_on: Listen | None = None,
    telemetry: Telemetry | None = None,
) -> AsyncGenerator[Proxy]:
    """Listen and serve for the length of the block. Leaving ends everything at once; see
    :meth:`Proxy.shutdown`. ``telemetry`` is told what happens.

    Clients come in where ``settings.bind`` says, or by ``listen_on`` (a network in memory, sockets
    that were handed over).

    Raises :exc:`OSError`, in a group as all that leaves a nursery, where the address cannot be
    bound.
    """
    telemetry = telemetry or Telemetry()
    async with open_holdings(
        settings,
        upstream_url=upstream_url,
        telemetry=telemetry,
        count_connections=lambda: len(server.connections),
        is_draining=lambda: server.is_draining,
        present_calls=lambda: front.app.calls,
    ) as holdings:
        front = Front(create_app(settings, holdings))
        config = _server_config(settings)
        listen_on = listen_on or partial(
            listen, config, write_timeout=settings.write_timeout, reuse_port=settings.reuse_port
        )
        turnstile = Turnstile(
            is_tls=config.ssl_enabled, on_refusal=partial(_count_refusal, telemetry.metrics)
        )
        _bound(config, turnstile, settings)
        async with open_server(front, config, listen_on, turnstile) as server:
            yield Proxy(settings, holdings, front, server, partial(_bound, config, turnstile))


async def serve(
    settings: Settings,
    *,
    upstream_url: str | None = None,
    on_listening: Callable[[list[str]], None] | None = None,
    listeners: Sequence[Listener] = (),
    log: LogWriter | None = None,
    reload: Callable[[], Settings] | None = None,
    place: Place | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then shut down in good order; a second signal does not wait
    for it. ``listeners`` are told how generations fare, beside the log; what ``log`` drops is in
    the metrics. Sockets that systemd has handed over take the place of those of
    ``settings.bind``. At each SIGHUP the settings are those that ``reload`` loads. A worker has a
    ``place``, and its supervisor is told what a service manager would be.

    Raises :exc:`OSError`, in a group as all that leaves a nursery, where the address cannot be
    bound.
    """
    telemetry = Telemetry([GenerationLog(), *listeners])
    if log is not None:
        telemetry.metrics.observe_log(log)
    inherited = take_inherited(os.environ)
    listen_on = partial(listen_on_inherited, inherited, settings) if inherited else None
    if place is not None:
        place.share(telemetry.metrics)
        # Of all workers the last to go would leave who waits to be reset.
        listen_on = partial(listen_on_inherited, inherited, settings, KernelListener)
    with (
        nullcontext(place) if place is not None else open_notifier(os.environ) as notifier,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
        trio.open_signal_receiver(signal.SIGHUP) as hangups,
    ):
        async with (
            trio.open_nursery() as clockwork,
            open_proxy(
                settings, upstream_url=upstream_url, listen_on=listen_on, telemetry=telemetry
            ) as proxy,
            trio.open_nursery() as errands,
        ):
            clockwork.start_soon(telemetry.metrics.loop_lag.measure)
            # What was imported stays: the collector need not walk it each time clients leave. Nor
            # does each of a thousand departures make enough garbage to look at once. But what
            # outlived one look, as the requests do that were under way, is looked at again soon.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE_AT_ONCE, LOOKS_AT_THE_YOUNG, LOOKS_AT_THE_YOUNG)
            clockwork.start_soon(notifier.feed_watchdog)
            load = reload or (lambda: settings)
            errands.start_soon(reload_on, hangups, load, proxy.configure, notifier)
            if on_listening is not None:
                on_listening(proxy.binds)
            notifier.ready()
            await anext(signals)
            notifier.stopping()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_next, signals, nursery.cancel_scope)
                await proxy.shutdown()
                nursery.cancel_scope.cancel(reason="shut down")
            errands.cancel_scope.cancel(reason="shut down")
            clockwork.cancel_scope.cancel(reason="shut down")
        if place is not None:
            await place.leave(telemetry.metrics)


async def _cancel_on_next(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel(reason="a second signal")


def _count_refusal(metrics: Metrics, failure: Failure) -> None:
    count = metrics.shed if failure.status == 503 else metrics.rate_limited
    count("connections")


def _bound(config: Config, turnstile: Turnstile, settings: Settings) -> None:
    """What clients may send over the connections that begin from now on, and how many get in."""
    config.h11_max_incomplete_size = settings.max_head
    config.websocket_max_message_size = settings.max_body
    turnstile.max_connections = settings.max_connections
    turnstile.max_address_connections = settings.max_address_connections


def _server_config(settings: Settings) -> Config:
    config = Config()
    config.bind = settings.binds
    config.certfile = settings.certfile
    config.keyfile = settings.keyfile
    config.alpn_protocols = ["http/1.1"]
    config.backlog = BACKLOG
    config.include_server_header = False
    config.websocket_ping_interval = settings.heartbeat
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    # Nothing here grows with a connection's age, and to Node's fetch the cut of an answer that says
    # "Connection: close" looks like its proper end.
    config.keep_alive_max_requests = sys.maxsize
    config.ssl_handshake_timeout = TLS_HANDSHAKE_SECONDS
    return config
