"""The whole: hub, upstream, routes and server, opened in order and shut down in reverse."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio
from hypercorn.config import Config

from trioproxy.config import Settings
from trioproxy.fanout import Hub, Limits, open_hub
from trioproxy.gateway import Quotas
from trioproxy.serving.connection import LAST_CALL_SECONDS
from trioproxy.serving.inherited import listen_on_inherited, take_inherited
from trioproxy.serving.listening import Listen, listen
from trioproxy.serving.notifying import open_notifier
from trioproxy.serving.server import Server, open_server
from trioproxy.serving.turnstile import Turnstile
from trioproxy.telemetry import GenerationLog, Listener, LogWriter, Metrics, Telemetry
from trioproxy.upstream import Roster, open_roster
from trioproxy.web import BOARD_LIMITS, create_app, open_metronome
from trioproxy.wire import Failure

FAREWELL_SECONDS = 1.0
"""How long, after the drain, clients get to take the message that it is over."""

KEEP_ALIVE_SECONDS = 15.0
"""Between two requests, and for the first: longer than the official clients keep a connection (5
s)."""
HANDSHAKE_SECONDS = 10.0
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
        self, settings: Settings, hub: Hub, board_hub: Hub, roster: Roster, server: Server
    ) -> None:
        self.settings = settings
        self.hub = hub
        self._board_hub = board_hub
        self.roster = roster
        self.server = server

    @property
    def binds(self) -> list[str]:
        return self.server.binds

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
        self._board_hub.close()
        with trio.move_on_after(self.settings.drain):
            with trio.move_on_after(LAST_CALL_SECONDS):
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
    limits = Limits(
        max_transcript_bytes=settings.max_transcript,
        max_hub_bytes=settings.max_hub,
        max_subscribers=settings.max_subscribers,
        max_total_generations=settings.max_total_generations,
        max_seconds=settings.max_duration,
        retention=settings.retention,
        max_lag=settings.max_lag,
    )
    quotas = Quotas(settings)
    async with (
        open_roster(settings, upstream_url=upstream_url) as roster,
        open_hub(limits, watch=telemetry.watch, share_of=quotas.share_of) as hub,
        open_hub(BOARD_LIMITS) as board_hub,
        open_metronome(settings.heartbeat) as metronome,
    ):
        app = create_app(
            settings,
            hub=hub,
            board_hub=board_hub,
            roster=roster,
            metronome=metronome,
            metrics=telemetry.metrics,
            quotas=quotas,
            count_connections=lambda: len(server.connections),
            is_draining=lambda: server.is_draining,
        )
        config = _server_config(settings)
        listen_on = listen_on or partial(
            listen, config, write_timeout=settings.write_timeout, reuse_port=settings.reuse_port
        )
        turnstile = Turnstile(
            max_connections=settings.max_connections,
            max_address_connections=settings.max_address_connections,
            is_tls=config.ssl_enabled,
            on_refusal=partial(_count_refusal, telemetry.metrics),
        )
        async with open_server(app, config, listen_on, turnstile) as server:
            yield Proxy(settings, hub, board_hub, roster, server)


async def serve(
    settings: Settings,
    *,
    upstream_url: str | None = None,
    on_listening: Callable[[list[str]], None] | None = None,
    listeners: Sequence[Listener] = (),
    log: LogWriter | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then shut down in good order; a second signal does not wait
    for it. ``listeners`` are told how generations fare, beside the log; what ``log`` drops is in
    the metrics. Sockets that systemd has handed over take the place of those of
    ``settings.bind``.

    Raises :exc:`OSError`, in a group as all that leaves a nursery, where the address cannot be
    bound.
    """
    telemetry = Telemetry([GenerationLog(), *listeners])
    if log is not None:
        telemetry.metrics.observe_log(log)
    inherited = take_inherited(os.environ)
    listen_on = partial(listen_on_inherited, inherited, settings) if inherited else None
    with (
        open_notifier(os.environ) as notifier,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
    ):
        async with (
            trio.open_nursery() as clockwork,
            open_proxy(
                settings, upstream_url=upstream_url, listen_on=listen_on, telemetry=telemetry
            ) as proxy,
        ):
            clockwork.start_soon(telemetry.metrics.loop_lag.measure)
            # What was imported stays: the collector need not walk it each time clients leave. Nor
            # does each of a thousand departures make enough garbage to look at once. But what
            # outlived one look, as the requests do that were under way, is looked at again soon.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE_AT_ONCE, LOOKS_AT_THE_YOUNG, LOOKS_AT_THE_YOUNG)
            clockwork.start_soon(notifier.feed_watchdog)
            if on_listening is not None:
                on_listening(proxy.binds)
            notifier.ready()
            await anext(signals)
            notifier.stopping()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_next, signals, nursery.cancel_scope)
                await proxy.shutdown()
                nursery.cancel_scope.cancel(reason="shut down")
            clockwork.cancel_scope.cancel(reason="shut down")


async def _cancel_on_next(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel(reason="a second signal")


def _count_refusal(metrics: Metrics, failure: Failure) -> None:
    count = metrics.shed if failure.status == 503 else metrics.rate_limited
    count("connections")


def _server_config(settings: Settings) -> Config:
    config = Config()
    config.bind = settings.binds
    config.certfile = settings.certfile
    config.keyfile = settings.keyfile
    config.alpn_protocols = ["http/1.1"]
    config.backlog = BACKLOG
    config.h11_max_incomplete_size = settings.max_head
    config.include_server_header = False
    config.websocket_max_message_size = settings.max_body
    config.websocket_ping_interval = settings.heartbeat
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    # Nothing here grows with a connection's age, and to Node's fetch the cut of an answer that says
    # "Connection: close" looks like its proper end.
    config.keep_alive_max_requests = sys.maxsize
    config.ssl_handshake_timeout = HANDSHAKE_SECONDS
    return config
