"""The nodes of a cluster as the places in which generations run."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Generator, Hashable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import trio

from trioproxy.cluster import (
    NOTICE,
    BrokerError,
    Followed,
    Known,
    Lease,
    Node,
    NotRunning,
    Ref,
    Terms,
    open_node,
)
from trioproxy.cluster.redis import open_redis_brokers
from trioproxy.config import Settings
from trioproxy.fanout import (
    FanoutError,
    Generation,
    Hub,
    Identity,
    Limits,
    TooManyGenerations,
    TooManySubscribers,
    UnknownGeneration,
)
from trioproxy.gateway import Quotas, Rates
from trioproxy.telemetry import ClusterFigures, Listener, Reader, Telemetry, Timing
from trioproxy.web.asking import Asking
from trioproxy.web.caller import Caller
from trioproxy.web.calls import BROKER_LOST
from trioproxy.web.counting import Counting, standing_of
from trioproxy.web.places import ClusterDown, Link, Overview, Placed
from trioproxy.web.replicas import About, ReplicaCodec, pack_about, reader_of, unpack_about
from trioproxy.web.shared_limits import SharedLimits
from trioproxy.web.surveys import Neighbours, answer

logger = logging.getLogger(__name__)

REACHED = 5.0
"""Seconds that a replica which was asked for by its id lingers, and has to catch up with what was
read elsewhere."""


@asynccontextmanager
async def open_cluster(
    settings: Settings, limits: Limits, telemetry: Telemetry, quotas: Quotas, rates: Rates
) -> AsyncGenerator[Cluster]:
    """Be a node of the cluster that the settings name, for the length of the block. It need not be
    there, now or later. Raises :exc:`ValueError` and :exc:`OSError` for a URL that cannot be
    used."""
    assert settings.cluster is not None
    figures = ClusterFigures()
    teller, counting = _Teller(figures), Counting(figures)
    terms = terms_of(settings)
    node_name = secrets.token_hex(8)
    async with (
        open_redis_brokers(settings.cluster, node_name, terms, watch=counting) as brokers,
        open_node(
            brokers,
            ReplicaCodec(),
            limits,
            watch=telemetry.watch,
            share_of=quotas.share_of,
            patience=settings.cluster_patience,
            always=settings.cluster_publish == "always",
            node_watch=counting,
            answer=answer,
        ) as node,
    ):
        teller.node = node
        telemetry.tell(teller)
        telemetry.metrics.observe_cluster(figures, partial(standing_of, node))
        goes_alone = settings.cluster_down == "local"
        limits_of_all = SharedLimits(node, quotas, rates, goes_alone=goes_alone)
        yield Cluster(node, limits_of_all, figures, goes_alone=goes_alone)


def terms_of(settings: Settings) -> Terms:
    """For how long things hold. Nothing runs out before a node that is slow has renewed it."""
    lease = settings.cluster_lease
    return Terms(lease, ttl=max(Terms().ttl, 2 * lease), retention=settings.retention)


class Cluster:
    """See :class:`~trioproxy.web.places.Places`. ``node`` is this one."""

    def __init__(
        self, node: Node, limits: SharedLimits, figures: ClusterFigures, *, goes_alone: bool
    ) -> None:
        self.node = node
        self.limits = limits
        self._figures = figures
        self._neighbours = Neighbours(node.name, node.hub, node.ask)
        self._goes_alone = goes_alone

    @property
    def hub(self) -> Hub:
        """In which this node's generations run, and the replicas of others'."""
        return self.node.hub

    @asynccontextmanager
    async def place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None]
    ) -> AsyncGenerator[Placed]:
        key_to_join()  # who is refused for what they ask is not counted
        async with self.limits.counted(asking.tenant) as ticket:
            try:
                async with (
                    self.limits.seat(asking.tenant),
                    self._place(asking, key_to_join) as placed,
                ):
                    yield replace(placed, ticket=ticket)
            except (TooManyGenerations, TooManySubscribers):
                if ticket is not None:
                    ticket.use()  # it was let in, and came to nothing
                raise

    @asynccontextmanager
    async def _place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None]
    ) -> AsyncGenerator[Placed]:
        key = key_to_join()
        if self.hub.find(key) is not None:
            yield Placed(None)
        elif key is None or not asking.shares:
            async with self.limits.room(asking.tenant):
                with self._own(asking, key) as placed:
                    yield placed
        else:
            async with self.node.turn(_request_of(key)), AsyncExitStack() as stack:
                # Whoever had the turn before may have started it.
                is_here = self.hub.find(key_to_join()) is not None
                yield Placed(None) if is_here else await self._elect(stack, asking, key)

    async def _elect(self, stack: AsyncExitStack, asking: Asking, key: Hashable) -> Placed:
        about = pack_about(asking, _digest(key))
        try:
            found = await stack.enter_async_context(self.node.place(_request_of(key), about))
        except BrokerError as error:
            self._figures.elections["alone" if self._goes_alone else "refused"] += 1
            if not self._goes_alone:
                raise ClusterDown from error
            logger.info("a call is made unasked: %s", error)
            found = None
        if isinstance(found, Followed):
            return self._replica(found)
        await stack.enter_async_context(self.limits.room(asking.tenant))
        return stack.enter_context(self._own(asking, key)) if found is None else _at_home(found)

    @contextmanager
    def _own(self, asking: Asking, key: Hashable | None) -> Generator[Placed]:
        request = secrets.token_hex(16) if key is None else _request_of(key)
        about = pack_about(asking, None if key is None else _digest(key))
        with self.node.own(request, about) as lease:
            yield _at_home(lease)

    async def reach(
        self, caller: Caller, generation_id: str, after: int | None, up_to_now: bool
    ) -> Generation:
        ref, known, about = await self._look(caller, generation_id)
        if up_to_now:
            after = await self._neighbours.find_end(caller, generation_id, known.node)
        try:
            async with self.node.turn(ref.request):
                generation = self._find_replica(generation_id)
                if generation is None:
                    async with self.node.reach(ref) as followed:
                        generation = self._start(followed, about)
        except NotRunning:
            raise _unknown(generation_id) from None
        except BrokerError as error:
            raise ClusterDown from error
        await self._catch_up(generation, after)
        return generation

    def _find_replica(self, generation_id: str) -> Generation | None:
        """The one that is here, unless it was cut off."""
        try:
            generation = self.hub.get(generation_id)
        except FanoutError:
            return None
        outcome = generation.outcome
        return None if outcome is not None and outcome.reason == BROKER_LOST else generation

    async def _look(self, caller: Caller, generation_id: str) -> tuple[Ref, Known, About]:
        """What there is of a generation. Raises what :meth:`reach` does."""
        ref = Ref.parse(generation_id)
        if ref is None:
            raise _unknown(generation_id)
        try:
            known = await self.node.look(ref)
            about = unpack_about(known.about)
        except (NotRunning, ValueError):
            raise _unknown(generation_id) from None
        except BrokerError as error:
            raise ClusterDown from error
        if not caller.may_see(about.tenant):
            raise _unknown(generation_id)
        return ref, known, about

    def _start(self, followed: Followed, about: About) -> Generation:
        origin = about.origin()
        placed = self._replica(followed)
        assert placed.follow is not None
        key = None if about.key is None else (about.tenant, about.key)
        return self.hub.start(
            None if self.hub.find(key) is not None else key,
            placed.follow(origin),
            linger=REACHED,
            when_full="trim" if origin.streamed else "fail",
            tenant=about.tenant,
            origin=origin,
            identity=placed.identity,
        )

    async def _catch_up(self, generation: Generation, after: int | None) -> None:
        with (
            trio.move_on_after(REACHED),
            self.hub.subscribe(generation.id, linger=REACHED, counts=False) as subscriber,
        ):
            await generation.wait_opened()
            while after is not None and subscriber.cursor < after:
                try:
                    await anext(subscriber)
                except StopAsyncIteration:
                    break

    # -- what the others are asked -----------------------------------------------------------------

    async def reach_response(self, caller: Caller, response_id: str) -> Generation | None:
        position = await self._neighbours.find_response(caller, response_id)
        if position is None:
            return None
        return await self.reach(caller, position.generation_id, position.after, False)

    async def survey(self, caller: Caller) -> Overview | None:
        return await self._neighbours.survey(caller)

    async def describe(self, caller: Caller, generation_id: str) -> Mapping[str, Any] | None:
        try:
            await self._look(caller, generation_id)
        except (UnknownGeneration, ClusterDown):
            return None
        told = await self._neighbours.survey(caller, generation_id)
        return told.rows[0] if told.rows else None

    async def tell_timing(self, caller: Caller, generation_id: str) -> bytes | None:
        try:
            _, known, _ = await self._look(caller, generation_id)
        except (UnknownGeneration, ClusterDown):
            return None
        return await self._neighbours.tell_timing(caller, generation_id, known.node)

    @property
    def name(self) -> str:
        return self.node.name

    def stop(self, generation: Generation) -> None:
        self.node.stop(generation)

    @property
    def is_ready(self) -> bool:
        """A lane that is down is so at all nodes: who is sent elsewhere is not better off."""
        return self._goes_alone or self.link != "down"

    @property
    def link(self) -> Link:
        are_up = [broker.up_since is not None for broker in self.node.brokers]
        return "up" if all(are_up) else "partly" if any(are_up) else "down"

    def _replica(self, followed: Followed) -> Placed:
        identity = Identity(followed.ref.public_id, is_replica=True)
        return Placed(identity, lambda origin: self.node.mirror(followed, reader_of(origin)))


class _Teller(Listener):
    """Tells the node what happens to generations, and counts what becomes of replicas."""

    node: Node

    def __init__(self, figures: ClusterFigures) -> None:
        self._figures = figures

    def started(self, timing: Timing) -> None:
        self.node.started(timing.generation)

    def left(self, timing: Timing, reader: Reader) -> None:
        self.node.left(timing.generation)

    def ended(self, timing: Timing) -> None:
        generation, outcome = timing.generation, timing.generation.outcome
        assert outcome is not None
        self.node.ended(generation)
        if generation.is_replica:
            self._figures.replicas_ended[outcome.kind, outcome.reason or ""] += 1


def _unknown(generation_id: str) -> UnknownGeneration:
    return UnknownGeneration(f"there is no generation {generation_id}")


def _at_home(lease: Lease) -> Placed:
    return Placed(Identity(lease.ref.public_id, notice=NOTICE))


def _digest(key: Hashable) -> bytes:
    _, digest = cast(tuple[str, bytes], key)  # as `read_asking` makes it
    return digest


def _request_of(key: Hashable) -> str:
    """The name of a request, to all nodes: 32 hexadecimal digits."""
    tenant, digest = cast(tuple[str, bytes], key)
    return hashlib.sha256(digest + tenant.encode()).hexdigest()[:32]
