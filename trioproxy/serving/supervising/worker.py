"""A worker, as its supervisor sees it."""

from __future__ import annotations

import logging
import signal
import socket as stdlib_socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio

from trioproxy.config import WORKER_VARIABLE
from trioproxy.serving.supervising.leash import FIRST, Leashed, leashed
from trioproxy.serving.supervising.line import FIGURES, Line, LineClosed
from trioproxy.serving.supervising.place import describe_place

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""What a worker gets until it listens."""

FIGURES_SECONDS = 2.0
"""What it gets to tell its metrics; those that it told before count then."""


@dataclass(frozen=True, slots=True)
class Outfit:
    """What every worker is given: the command that it is, its environment, the sockets that it
    listens on, how often (seconds) it must say that it lives, and how it learns the metrics of
    all."""

    command: Sequence[str]
    environ: Mapping[str, str]
    sockets: Sequence[stdlib_socket.socket]
    watchdog: float
    all_figures: Callable[[], Awaitable[bytes]]


class Worker:
    """A process that serves, or is about to. ``figures`` are the metrics that it told last."""

    def __init__(self, process: Leashed, line: Line, outfit: Outfit) -> None:
        self.pid = process.pid
        self.figures = b""
        self.code: int | None = None
        self._process = process
        self._line = line
        self._watchdog = outfit.watchdog
        self._has_told_last = False
        self._patience = trio.CancelScope()
        self._ready = trio.Event()
        self._ended = trio.Event()
        line.hear = self._hear
        line.answer = outfit.all_figures

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set() and self.code is None

    async def wait_ready(self) -> bool:
        """Wait until it listens. False if it has ended before that."""
        async with trio.open_nursery() as nursery:

            async def watch(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel(reason="it is known")

            nursery.start_soon(watch, self._ready)
            nursery.start_soon(watch, self._ended)
        return self.is_ready

    async def wait_ended(self) -> int:
        """Its exit code, when it has ended; if a signal has ended it, less than 0."""
        await self._ended.wait()
        assert self.code is not None
        return self.code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        self._process.send(number)

    async def tell_figures(self) -> None:
        """Have it tell its metrics, if it can in :data:`FIGURES_SECONDS`."""
        if not self.is_ready:
            return
        # Where the line is closed, its last ones have come.
        with trio.move_on_after(FIGURES_SECONDS), suppress(LineClosed):
            figures = await self._line.ask()
            if not self._has_told_last:  # while the answer was on its way
                self.figures = figures

    async def run(self) -> None:
        """Hear what it says, until it has ended; one that is silent for too long is killed."""
        self._patience.deadline = trio.current_time() + START_SECONDS
        with self._patience:
            await self._line.run()
        if self._patience.cancelled_caught:
            logger.error("worker %d says nothing any more: it is killed", self.pid)
            self._process.send(signal.SIGKILL)
        self.code = await self._process.wait()
        self._ended.set()

    def _hear(self, kind: bytes, said: bytes) -> None:
        if kind == FIGURES:
            self.figures, self._has_told_last = said, True
            return
        if said == b"READY=1":
            self._ready.set()
        if self._ready.is_set():
            self._patience.deadline = trio.current_time() + self._watchdog


@asynccontextmanager
async def open_worker(outfit: Outfit) -> AsyncGenerator[Worker]:
    """A process of its own, for the length of the block. On exit it is killed, if it has not
    ended. Raises :exc:`OSError`."""
    ours, theirs = stdlib_socket.socketpair()
    fds = [*(socket.fileno() for socket in outfit.sockets), theirs.fileno()]
    environ = {
        **outfit.environ,
        "LISTEN_FDS": str(len(outfit.sockets)),
        WORKER_VARIABLE: describe_place(FIRST + len(outfit.sockets), outfit.watchdog),
    }
    async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
        with theirs, leashed(outfit.command, environ=environ, fds=fds) as process:
            theirs.close()
            worker = Worker(process, Line(stream), outfit)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run)
                yield worker
                nursery.cancel_scope.cancel(reason="the worker is let go")
