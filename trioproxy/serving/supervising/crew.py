"""So many workers, whatever becomes of each."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from trioproxy.serving.supervising.pauses import Pauses

logger = logging.getLogger(__name__)


class CannotStart(Exception):
    """A worker ended before it was ready, and no other had served. It has said why."""


class Employee(Protocol):
    """What the crew asks of a :class:`~trioproxy.serving.supervising.worker.Worker`."""

    pid: int
    figures: bytes

    @property
    def is_ready(self) -> bool: ...
    async def wait_ready(self) -> bool: ...
    async def wait_ended(self) -> int: ...
    async def tell_figures(self) -> None: ...
    def signal(self, number: signal.Signals) -> None: ...


class _Seat:
    """Where one worker sits, the next one when that has gone. Whoever puts somebody there holds
    ``changing``."""

    def __init__(self, worker: Employee) -> None:
        self.worker = worker
        self.changing = trio.Lock()


class Crew:
    """The workers. ``workers`` are those that run: one for each seat, but for those that are about
    to take one, and those that drain. ``restarts`` counts those that ended by themselves."""

    def __init__(
        self,
        hire: Callable[[], AbstractAsyncContextManager[Employee]],
        on_end: Callable[[Employee], None],
        nursery: trio.Nursery,
    ) -> None:
        self.workers: set[Employee] = set()
        self.restarts = 0
        self._hire = hire
        self._on_end = on_end
        self._nursery = nursery
        self._seats: list[_Seat] = []
        self._going: set[Employee] = set()
        self._is_ending = False
        self._one_ended = trio.lowlevel.ParkingLot()

    async def start(self, number: int) -> None:
        """Start so many, and wait until all are ready. Raises :class:`CannotStart`."""
        seats = [_Seat(await self._nursery.start(self._employ)) for _ in range(number)]
        for seat in seats:
            if not await seat.worker.wait_ready():
                raise CannotStart(f"a worker ended with {await seat.worker.wait_ended()}")
        self._seats = seats
        for seat in seats:
            self._nursery.start_soon(self._keep, seat)

    async def relieve(self, patience: Callable[[], float]) -> bool:
        """Have a new worker take the place of each, one after the other: when it is ready, the one
        before it is told to go, and when that has ended the next is relieved. Who has not ended in
        ``patience()`` seconds is killed.

        False, and those that are left stay, if a new one does not become ready. If cancelled, each
        seat has a worker, new or old.
        """
        for seat in self._seats:
            if self._is_ending:
                return False
            async with seat.changing:
                worker = await self._start_one()
                if worker is None or not await worker.wait_ready():
                    return False
                before, seat.worker = seat.worker, worker
            self._let_go(before)
            with trio.move_on_after(patience()) as waiting:
                await before.wait_ended()
            if waiting.cancelled_caught:
                logger.error("worker %d does not end: it is killed", before.pid)
                before.signal(signal.SIGKILL)
                await before.wait_ended()
        return True

    def reload(self) -> None:
        """Have all of them load their settings anew; those that start, when they are ready: before,
        a hangup would end them."""
        for worker in self.workers:
            self._nursery.start_soon(self._reload, worker)

    def end(self) -> None:
        """Have all of them go, and nobody hired any more; those that drain already go on with it.
        Once more, and they do not wait for their clients."""
        is_told_again, self._is_ending = self._is_ending, True
        for worker in self.workers:
            if is_told_again:
                worker.signal(signal.SIGTERM)
            else:
                self._let_go(worker)

    async def wait_ended(self) -> None:
        """Wait until none is left."""
        while self.workers:
            await self._one_ended.park()

    def _let_go(self, worker: Employee) -> None:
        """Tell it to go, once: who is told twice does not wait for its clients."""
        if worker in self.workers and worker not in self._going:
            self._going.add(worker)
            worker.signal(signal.SIGTERM)

    async def _keep(self, seat: _Seat) -> None:
        pauses = Pauses()
        counted: Employee | None = None
        while True:
            worker, began = seat.worker, trio.current_time()
            code = await worker.wait_ended()
            if self._is_ending:
                return
            if seat.worker is not worker:
                continue  # it was relieved
            pause = pauses.after(trio.current_time() - began)
            logger.error("worker %d ended with %d: another starts in %g s", worker.pid, code, pause)
            if worker is not counted:  # else there was no room for another
                self.restarts += 1
                counted = worker
            await trio.sleep(pause)
            async with seat.changing:
                if seat.worker is worker and not self._is_ending:
                    seat.worker = await self._start_one() or worker

    async def _reload(self, worker: Employee) -> None:
        if await worker.wait_ready():
            worker.signal(signal.SIGHUP)

    async def _start_one(self) -> Employee | None:
        """Another worker; None, and the log says why, where the system has no room for it."""
        try:
            return await self._nursery.start(self._employ)
        except OSError as error:
            logger.error("no worker can be started: %s", error)
            return None

    async def _employ(  # noqa: ASYNC114 - what it opens is its own
        self, task_status: trio.TaskStatus[Employee]
    ) -> None:
        """Own a worker, from its start to its end."""
        async with self._hire() as worker:
            self.workers.add(worker)
            if self._is_ending:  # since it was asked for
                self._let_go(worker)
            try:
                task_status.started(worker)
                await worker.wait_ended()
            finally:
                self.workers.discard(worker)
                self._going.discard(worker)
                self._on_end(worker)
                self._one_ended.unpark_all()


@asynccontextmanager
async def open_crew(
    hire: Callable[[], AbstractAsyncContextManager[Employee]],
    on_end: Callable[[Employee], None],
) -> AsyncGenerator[Crew]:
    """A crew of nobody, for the length of the block; whoever it has on exit is killed. Each worker
    is one that ``hire`` opens; ``on_end`` is called when it has ended."""
    async with trio.open_nursery() as nursery:
        yield Crew(hire, on_end, nursery)
        nursery.cancel_scope.cancel(reason="the supervisor ends")
