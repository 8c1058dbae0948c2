"""A worker's place: what it was given, and whom it tells how it fares."""

from __future__ import annotations

import os
import socket as stdlib_socket
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager

import trio

from trioproxy.config import WORKER_VARIABLE
from trioproxy.serving.notifying import Notifier
from trioproxy.serving.supervising.line import FIGURES, WORD, Line
from trioproxy.telemetry import Metrics

LAST_WORDS_SECONDS = 1.0
"""What the last figures get to be taken in."""


class Place(Notifier):
    """Tells the supervisor what a service manager would be told, and shares the metrics of all
    workers."""

    def __init__(self, line: Line, *, watchdog: float) -> None:
        super().__init__(None, watchdog=watchdog)
        self._line = line

    def share(self, metrics: Metrics) -> None:
        """Have these among those of all workers, and those of all workers told in their place."""

        async def expose() -> bytes:  # noqa: ASYNC124 - the line asks those who may have to wait
            return metrics.expose()

        self._line.answer = expose
        metrics.gather = self._line.ask

    async def leave(self, metrics: Metrics) -> None:
        """Say for the last time what was counted: in the sum it stays."""
        self._line.say(FIGURES, metrics.expose())
        with trio.move_on_after(LAST_WORDS_SECONDS):
            await self._line.flush()

    def _tell(self, state: str) -> None:
        self._line.say(WORD, state.encode())


def describe_place(fd: int, watchdog: float) -> str:
    """How a worker is told that it is one: by whom, the descriptor of its line, and how often it
    must say that it lives."""
    return f"{os.getpid()}:{fd}:{watchdog}"


@asynccontextmanager
async def open_place(environ: MutableMapping[str, str]) -> AsyncGenerator[Place]:
    """The place that the environment tells of, for the length of the block; it is told of no more.
    Raises :exc:`ValueError` for one that is another process's."""
    supervisor, fd, watchdog = environ.pop(WORKER_VARIABLE).split(":")
    if int(supervisor) != os.getppid():
        raise ValueError(f"{WORKER_VARIABLE} is for who is started by a supervisor")
    os.set_inheritable(int(fd), False)
    socket = stdlib_socket.socket(fileno=int(fd))
    async with trio.SocketStream(trio.socket.from_stdlib_socket(socket)) as stream:
        line = Line(stream)
        place = Place(line, watchdog=float(watchdog))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run)
                yield place
                nursery.cancel_scope.cancel(reason="the worker has ended")
        finally:
            place.close()
