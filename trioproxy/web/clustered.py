"""The nodes of a cluster as the places in which generations run."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Generator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import cast

from trioproxy.cluster import (
    NOTICE,
    BrokerError,
    Followed,
    Lease,
    Node,
    Terms,
    open_node,
)
from trioproxy.cluster.redis import open_redis_brokers
from trioproxy.config import Settings
from trioproxy.fanout import (
    Generation,
    Hub,
    Identity,
    Limits,
    TooManyGenerations,
    TooManySubscribers,
)
from trioproxy.gateway import Quotas, Rates
from trioproxy.telemetry import ClusterFigures, Listener, Reader, Telemetry, Timing
from trioproxy.web.asking import Asking
from trioproxy.web.counting import Counting, standing_of
from trioproxy.web.elsewhere import Elsewhere, replica_of
from trioproxy.web.places import ClusterDown, Link, Placed
from trioproxy.web.replicas import ReplicaCodec, pack_about
from trioproxy.web.shared_limits import SharedLimits
from trioproxy.web.surveys import answer

logger = logging.getLogger(__name__)


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
    node_name = secrets.token_hex(8)  # no other process has it, or had
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
        self.elsewhere = Elsewhere(node)
        self._goes_alone = goes_alone

    @property
    def hub(self) -> Hub:
        """In which this node's generations run, and the replicas of others'."""
        return self.node.hub

    @asynccontextmanager
    async def place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None], *, is_read: bool
    ) -> AsyncGenerator[Placed]:
        key_to_join()  # who is refused for what they ask is not counted
        async with self.limits.counted(asking.tenant) as ticket:
            try:
                async with (
                    self.limits.seat(asking.tenant) if is_read else nullcontext(),
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
            return replica_of(self.node, found)
        await stack.enter_async_context(self.limits.room(asking.tenant))
        return stack.enter_context(self._own(asking, key)) if found is None else _at_home(found)

    @contextmanager
    def _own(self, asking: Asking, key: Hashable | None) -> Generator[Placed]:
        request = secrets.token_hex(16) if key is None else _request_of(key)
        about = pack_about(asking, None if key is None else _digest(key))
        with self.node.own(request, about) as lease:
            yield _at_home(lease)

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


class _Teller(Listener):
    """Tells the node what happens to generations, and counts what becomes of replicas."""

    node: Node

    def __init__(self, figures: ClusterFigures) -> None:
        self._figures = figures

    def started(self, timing: Timing) -> None:
        self.node.started(timing.generation)

    def left(self, timing: Timing, reader: Reader) -> None:
        self.node.left(timing.generation)

    def outlives(self, timing: Timing) -> None:
        self.node.outlives(timing.generation)

    def ended(self, timing: Timing) -> None:
        generation, outcome = timing.generation, timing.generation.outcome
        assert outcome is not None
        self.node.ended(generation)
        if generation.is_replica:
            self._figures.replicas_ended[outcome.kind, outcome.reason or ""] += 1


def _at_home(lease: Lease) -> Placed:
    return Placed(Identity(lease.ref.public_id, notice=NOTICE))


def _digest(key: Hashable) -> bytes:
    _, digest = cast(tuple[str, bytes], key)  # as `read_asking` makes it
    return digest


def _request_of(key: Hashable) -> str:
    """The name of a request, to all nodes: 32 hexadecimal digits."""
    tenant, digest = cast(tuple[str, bytes], key)
    return hashlib.sha256(digest + tenant.encode()).hexdigest()[:32]
