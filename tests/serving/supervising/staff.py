"""Workers that are no processes: they do what a test has them do."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from trioproxy.serving.supervising.crew import Employee


class Actor:
    """A worker that says when it is ready, drains for ``drain`` seconds, and heeds every signal but
    for those in ``deaf_to``."""

    def __init__(self, pid: int, staff: Staff) -> None:
        self.pid = pid
        self.figures = b""
        self.code: int | None = None
        self.signals: list[signal.Signals] = []
        self.drain = staff.drain
        self.deaf_to: set[signal.Signals] = set()
        self._staff = staff
        self._known = trio.Event()
        self._ended = trio.Event()
        self._told_to_go = trio.Event()
        self._is_ready = False

    @property
    def is_ready(self) -> bool:
        return self._is_ready and self.code is None

    def be_ready(self) -> None:
        self._is_ready = True
        self._known.set()
        self._staff.note(f"{self.pid} ready")

    def die(self, code: int = -9) -> None:
        if self.code is None:
            self.code = code
            self._known.set()
            self._ended.set()
            self._staff.note(f"{self.pid} ended")

    async def wait_ready(self) -> bool:
        await self._known.wait()
        return self.is_ready

    async def wait_ended(self) -> int:
        await self._ended.wait()
        assert self.code is not None
        return self.code

    async def tell_figures(self) -> None:
        await trio.lowlevel.checkpoint()

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if number in self.deaf_to:
            return
        if number == signal.SIGKILL:
            self.die()
        elif number == signal.SIGTERM:
            self._staff.note(f"{self.pid} goes")
            self._told_to_go.set()

    async def run(self) -> None:
        if self._staff.start is not None:
            await trio.sleep(self._staff.start)
            self.be_ready()
        await self._told_to_go.wait()
        await trio.sleep(self.drain)
        self.die(0)


class Staff:
    """All that were hired, in order. Each is ready ``start`` seconds later (None: when the test
    says so). ``record`` is what happened, and ``hired_at`` when."""

    def __init__(self, *, start: float | None = 1.0, drain: float = 0.0) -> None:
        self.start = start
        self.drain = drain
        self.actors: list[Actor] = []
        self.record: list[str] = []
        self.hired_at: list[float] = []
        self.refuses = 0
        self.closed = 0

    @asynccontextmanager
    async def hire(self) -> AsyncGenerator[Employee]:
        if self.refuses:
            self.refuses -= 1
            raise BlockingIOError("no room for a process")
        actor = Actor(len(self.actors) + 1, self)
        self.actors.append(actor)
        self.hired_at.append(trio.current_time())
        self.note(f"{actor.pid} hired")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor.run)
            try:
                yield actor
            finally:
                self.closed += 1
                nursery.cancel_scope.cancel()

    def note(self, what: str) -> None:
        self.record.append(what)
