"""The registry of generations, and the nursery in which they run."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncGenerator, Collection, Generator, Hashable
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import trio

from trioproxy.fanout.courier import Courier
from trioproxy.fanout.errors import CursorAhead, HubClosed, HubFull
from trioproxy.fanout.generation import ABANDONED, Generation, Mode
from trioproxy.fanout.limits import Limits, Share, ShareOf, Shares
from trioproxy.fanout.retention import Retention
from trioproxy.fanout.source import Source
from trioproxy.fanout.subscriber import OnLag, Subscriber
from trioproxy.fanout.transcript import Transcript, WhenFull
from trioproxy.fanout.watch import WatchFactory, watch_nothing


@asynccontextmanager
async def open_hub(
    limits: Limits | None = None,
    *,
    watch: WatchFactory = watch_nothing,
    share_of: ShareOf | None = None,
) -> AsyncGenerator[Hub]:
    """Open a hub for the length of the block. Generations outlive what started them, never this
    block. ``watch`` makes for each of them what is told what happens to it. ``share_of`` says what
    a tenant may have, where that is not the same for all.

    On exit every running generation is cancelled (``cancelled("shutdown")``) and the block waits
    until each has left its source.
    """
    async with trio.open_nursery() as outer:
        courier = Courier()
        outer.start_soon(courier.run, name="courier")
        async with trio.open_nursery() as nursery:
            hub = Hub(nursery, courier, limits or Limits(), watch, share_of)
            try:
                yield hub
            finally:
                hub.close()
        outer.cancel_scope.cancel(reason="no generation is left")


class Identity(NamedTuple):
    """What a generation is named: an id of the caller's, which no other has or had; and whether it
    is a replica of the one that has it elsewhere. ``notice`` is for how many seconds it lingers
    beyond what was asked for, for whoever looks whether it may end."""

    generation_id: str
    is_replica: bool = False
    notice: float = 0.0


class Hub:
    """Joins subscribers to generations: key -> running generation, id -> generation.

    Every method but those that wait is synchronous: between a decision and the registry that
    tells it lies no ``await``, so no other task can come in between and no cancellation can
    separate the two. ``shares`` says what its tenants have of it; a replica is none of their
    generations, which is counted where it runs.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        courier: Courier,
        limits: Limits,
        watch: WatchFactory,
        share_of: ShareOf | None,
    ) -> None:
        self.limits = limits
        self._nursery = nursery
        self._courier = courier
        self._watch = watch
        self._by_key: dict[Hashable, Generation] = {}
        self._running: dict[str, Generation] = {}
        self._retention = Retention(limits.retention, limits.max_hub_bytes)
        same = Share(limits.max_generations, limits.max_tenant_subscribers)
        self.shares = Shares(share_of or (lambda tenant: same))
        self._changed = trio.lowlevel.ParkingLot()
        self._draining = trio.Event()

    # -- joining -----------------------------------------------------------------------------------

    @contextmanager
    def join(
        self,
        key: Hashable | None,
        source: Source,
        *,
        after: int | None = None,
        mode: Mode = "replay",
        linger: float = 0.0,
        on_lag: OnLag = "wait",
        when_full: WhenFull = "trim",
        tenant: str = "",
        origin: object = None,
        identity: Identity | None = None,
        counts: bool = True,
    ) -> Generator[Subscriber]:
        """Subscribe to the generation that runs under ``key``, or start one that reads ``source``.

        One atomic step on entry; leaving is the exit of the block. ``mode`` says what a late joiner
        gets: ``"replay"`` everything so far and then live, ``"live"`` only what comes next,
        ``"private"`` a generation of its own, found under no key. A ``key`` of None is never shared
        either. ``after`` is the seq last read. ``linger`` is how many seconds the generation may
        outlive its last subscriber. ``identity`` is that of a generation that is started, if it has
        one already. Who does not ``count``: see :meth:`subscribe`.

        Raises :class:`HubClosed`, :class:`HubFull`, :class:`TooManyGenerations`,
        :class:`TooManySubscribers` or :class:`CursorAhead`, with nothing started and nobody joined.
        """
        if mode == "private":
            key = None
        generation = self.find(key)
        is_new = generation is None
        if generation is None:
            if after:
                raise CursorAhead(f"event {after} was asked for of a generation yet to start")
            generation = self._make(source, mode, linger, when_full, tenant, origin, identity)
        with generation.subscribe(
            after=after,
            mode=mode,
            linger=linger,
            on_lag=on_lag,
            max_lag=self.limits.max_lag,
            counts=counts,
        ) as subscriber:
            if is_new:
                self._launch(generation, key)
            yield subscriber

    @contextmanager
    def subscribe(
        self,
        generation_id: str,
        *,
        after: int | None = None,
        mode: Mode = "replay",
        linger: float = 0.0,
        on_lag: OnLag = "wait",
        counts: bool = True,
    ) -> Generator[Subscriber]:
        """Subscribe to a generation by its id, running or retained. Never starts one. Who does not
        ``count`` reads for others, and is none of the subscribers of which there is a most.

        Raises :class:`UnknownGeneration`, :class:`ExpiredGeneration`, :class:`TooManySubscribers`
        or :class:`CursorAhead`.
        """
        with self.get(generation_id).subscribe(
            after=after,
            mode=mode,
            linger=linger,
            on_lag=on_lag,
            max_lag=self.limits.max_lag,
            counts=counts,
        ) as subscriber:
            yield subscriber

    def start(
        self,
        key: Hashable | None,
        source: Source,
        *,
        mode: Mode = "replay",
        linger: float,
        when_full: WhenFull = "trim",
        tenant: str = "",
        origin: object = None,
        identity: Identity | None = None,
    ) -> Generation:
        """Start a generation that nobody reads yet: it begins in its linger, and ends with it if
        nobody comes.

        Finds the one that runs under ``key`` first, as :meth:`join` does; that one then lingers for
        as long as was asked here, if not longer. Raises :class:`HubClosed` or
        :class:`TooManyGenerations`.
        """
        if mode == "private":
            key = None
        generation = self.find(key)
        if generation is None:
            generation = self._make(source, mode, linger, when_full, tenant, origin, identity)
            self._launch(generation, key)
        else:
            generation.outlive_subscribers(linger)
        return generation

    # -- looking up --------------------------------------------------------------------------------

    def find(self, key: Hashable | None) -> Generation | None:
        """The generation that runs under ``key`` and can be joined, or None."""
        generation = self._by_key.get(key) if key is not None else None
        return generation if generation is not None and generation.can_be_joined else None

    def get(self, generation_id: str) -> Generation:
        """The generation with this id, running or retained.

        Raises :class:`ExpiredGeneration` for one of the last 10,000 that are gone, else
        :class:`UnknownGeneration`.
        """
        running = self._running.get(generation_id)
        if running is not None and running.can_be_joined:
            return running
        return self._retention.get(generation_id)

    def is_running(self, generation_id: str) -> bool:
        """Whether the generation with this id is here and has no outcome."""
        return generation_id in self._running

    @property
    def running(self) -> Collection[Generation]:
        """The generations that have no outcome yet, oldest first."""
        return self._running.values()

    @property
    def retained(self) -> Collection[Generation]:
        """The generations that have ended and can still be read, oldest first."""
        return self._retention.generations

    @property
    def held_bytes(self) -> int:
        """What all generations hold in memory, running and retained."""
        return self._retention.budget.used

    # -- ending ------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Start no further generation from now on. Those that run can still be joined, read and
        resumed."""
        self._draining.set()

    async def wait_draining(self) -> None:
        """Wait until no further generation is started. If cancelled, nothing has changed."""
        await self._draining.wait()

    async def wait_idle(self) -> None:
        """Wait until no generation runs. If cancelled, nothing has changed."""
        while self._running:
            await self._changed.park()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Refuse what comes, cancel what runs, send away who still reads what has ended.

        Every subscriber is told: the outcome ``cancelled("shutdown")``, or ``Evicted("draining")``.
        """
        self.refuse()
        for generation in self._retention.generations:
            for subscriber in generation.subscribers:
                subscriber.evict("draining")
        for generation in list(self._running.values()):
            generation.cancel("shutdown")

    def configure(self, limits: Limits) -> None:
        """Let these limits hold for what begins from now on, and for what is retained."""
        self.limits = limits
        self._retention.configure(limits.retention, limits.max_hub_bytes)

    # -- the registry ------------------------------------------------------------------------------

    def _make(
        self,
        source: Source,
        mode: Mode,
        linger: float,
        when_full: WhenFull,
        tenant: str,
        origin: object,
        identity: Identity | None,
    ) -> Generation:
        if self._draining.is_set():
            raise HubClosed("shutting down: no new generation is started")
        if identity is None or not identity.is_replica:
            self.shares.check_generation(tenant)
        if len(self._running) >= self.limits.max_total_generations:
            raise HubFull("generations", "as many generations are running as can")
        if not self._retention.make_room():
            raise HubFull("memory", "what is running takes all the memory there is for it")
        identity = identity or Identity(f"gen_{secrets.token_hex(16)}")
        generation_id, is_replica, notice = identity
        assert generation_id not in self._running
        self._retention.discard(generation_id)  # a replica that did not hear the end
        transcript = Transcript(
            generation_id,
            max_bytes=self.limits.max_transcript_bytes,
            budget=self._retention.budget,
            when_full=when_full,
        )
        return Generation(
            generation_id,
            source,
            transcript,
            mode=mode,
            linger=linger,
            max_subscribers=self.limits.max_subscribers,
            max_seconds=math.inf if is_replica else self.limits.max_seconds,
            tenant=tenant,
            origin=origin,
            shares=self.shares,
            courier=self._courier,
            watch=self._watch,
            on_end=self._retain,
            is_replica=is_replica,
            notice=notice,
        )

    def _launch(self, generation: Generation, key: Hashable | None) -> None:
        self._running[generation.id] = generation
        if not generation.is_replica:
            self.shares.add_generation(generation.tenant)
        if key is not None:
            generation.key = key
            self._by_key[key] = generation
        self._nursery.start_soon(generation.run, name=generation.id)
        generation.watch.started()

    def _retain(self, generation: Generation) -> None:
        """What the end of a generation means to the registry: called in the step that decides
        its outcome."""
        del self._running[generation.id]
        if not generation.is_replica:
            self.shares.remove_generation(generation.tenant)
        if generation.key is not None:
            del self._by_key[generation.key]
        is_abandoned = generation.outcome == ABANDONED and not generation.subscribers
        if generation.is_replica and is_abandoned:  # else that was told of what it copies
            generation.transcript.clear()
        else:
            self._retention.add(generation)
        self._changed.unpark_all()
