"""From the sockets to the last worker's end."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial

import trio
from hypercorn.config import Config

from trioproxy.config import Settings, variable_of
from trioproxy.serving.inherited import listen_on_inherited, take_inherited
from trioproxy.serving.listener import KernelListener
from trioproxy.serving.listening import listen
from trioproxy.serving.notifying import open_notifier
from trioproxy.serving.proxy import BACKLOG, FAREWELL_SECONDS
from trioproxy.serving.reloading import reload_on
from trioproxy.serving.server import TCP_HANDSHAKE_SECONDS
from trioproxy.serving.supervising.broker import open_broker
from trioproxy.serving.supervising.crew import Crew, open_crew
from trioproxy.serving.supervising.figures import Figures
from trioproxy.serving.supervising.worker import Outfit, open_worker

logger = logging.getLogger(__name__)

END_SECONDS = 5.0
"""What workers get to end in, beyond what they give their clients; then they are killed."""

_MANAGERS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What a service manager has told the supervisor, and no worker."""


async def supervise(
    settings: Settings,
    command: Sequence[str],
    *,
    on_listening: Callable[[list[str]], None],
    reload: Callable[[], Settings],
) -> None:
    """Have ``settings.workers`` processes serve, each one ``command``, until SIGTERM or SIGINT;
    then they end as one would. A second signal does not wait for it. At each SIGHUP all have the
    settings that ``reload`` loads here too; at each SIGUSR2 they are replaced one by one.

    Raises :exc:`OSError`, in a group as all that leaves a nursery, where an address cannot be
    bound; :class:`CannotStart` and :class:`NoBroker` likewise.
    """
    with (
        open_notifier(os.environ) as notifier,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
        trio.open_signal_receiver(signal.SIGHUP) as hangups,
        trio.open_signal_receiver(signal.SIGUSR2) as requests,
        _listening(settings) as listeners,
    ):
        async with _open_crew(settings, command, listeners, notifier.watchdog) as crew:
            supervisor = _Supervisor(settings, listeners, crew)
            with trio.CancelScope() as unless_signalled:
                async with trio.open_nursery() as starting:
                    starting.start_soon(_cancel_on_next, signals, unless_signalled)
                    await crew.start(settings.workers)
                    starting.cancel_scope.cancel(reason="all are ready")
            if unless_signalled.cancel_called:  # in the last step too: that signal comes once
                return
            async with trio.open_nursery() as errands:
                errands.start_soon(notifier.feed_watchdog)
                errands.start_soon(reload_on, hangups, reload, supervisor.configure, notifier)
                errands.start_soon(supervisor.relieve_on, requests)
                scheme = "https" if settings.certfile else "http"
                on_listening([f"{scheme}://{listener.address}" for listener in listeners])
                notifier.ready()
                await anext(signals)
                notifier.stopping()
                await supervisor.end(signals)
                errands.cancel_scope.cancel(reason="shut down")


class _Supervisor:
    """What is done when a signal comes."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[KernelListener],
        crew: Crew,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._crew = crew

    def configure(self, settings: Settings) -> list[str]:
        """Have all workers load the settings that were loaded here, and are right. Which of them
        hold after a restart only, the workers tell."""
        self._settings = settings
        self._crew.reload()
        return []

    async def relieve_on(self, requests: AsyncIterator[object]) -> None:
        """Have the workers replaced, one by one."""
        async for _ in requests:
            logger.info("the workers are replaced, one by one")
            if await self._crew.relieve(self._patience):
                logger.info("the workers were replaced")
            else:
                logger.error("not all workers were replaced: a new one did not start")

    async def end(self, signals: AsyncIterator[object]) -> None:
        """Have all end, in the time that they may give their clients and :data:`END_SECONDS`."""
        turned_away = [listener.turn_away() for listener in self._listeners]
        if any(turned_away):
            await trio.sleep(TCP_HANDSHAKE_SECONDS)
        self._crew.end()
        with trio.move_on_after(self._patience()):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hasten_on, signals)
                nursery.start_soon(self._stop_listening)
                await self._crew.wait_ended()
                nursery.cancel_scope.cancel(reason="all have ended")

    def _patience(self) -> float:
        """How long a worker may take to end."""
        settings = self._settings
        return settings.drain_delay + settings.drain + FAREWELL_SECONDS + END_SECONDS

    async def _hasten_on(self, signals: AsyncIterator[object]) -> None:
        async for _ in signals:
            self._crew.end()

    async def _stop_listening(self) -> None:
        """When the workers do: who comes later is refused at once, and not left waiting in a
        socket that nobody accepts from."""
        await trio.sleep(self._settings.drain_delay)
        for listener in self._listeners:
            listener.close()


@contextmanager
def _listening(settings: Settings) -> Generator[Sequence[KernelListener]]:
    """The sockets that were handed to this process, or those of ``settings.bind``."""
    inherited = take_inherited(os.environ)
    if inherited:
        listeners: Sequence[KernelListener] = listen_on_inherited(inherited, settings)
    else:
        config = Config()
        config.bind = settings.binds
        config.backlog = BACKLOG
        listeners = listen(
            config, write_timeout=settings.write_timeout, reuse_port=settings.reuse_port
        )
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


@asynccontextmanager
async def _open_crew(
    settings: Settings,
    command: Sequence[str],
    listeners: Sequence[KernelListener],
    watchdog: float,
) -> AsyncGenerator[Crew]:
    """The crew, and a broker where the settings name none."""
    environ = {name: os.environ[name] for name in os.environ if name not in _MANAGERS_OWN}
    sockets = [listener.socket for listener in listeners]
    figures = Figures()
    async with AsyncExitStack() as stack:
        if settings.cluster is None:
            url = await stack.enter_async_context(open_broker(settings.max_hub))
            environ[variable_of("cluster")] = url
        outfit = Outfit(command, environ, sockets, watchdog, lambda: figures.gather(crew))
        hire = partial(open_worker, outfit)
        crew = await stack.enter_async_context(open_crew(hire, figures.remember))
        yield crew


async def _cancel_on_next(signals: AsyncIterator[object], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel(reason="a signal came")
