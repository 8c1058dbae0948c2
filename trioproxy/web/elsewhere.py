"""What other nodes of the cluster run, as this one has it: replicas, and what the others tell."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    suppress,
)
from typing import Any

import trio

from trioproxy.cluster import BrokerError, Followed, Known, Node, NotRunning, Ref
from trioproxy.fanout import FanoutError, Generation, Identity, Subscriber, UnknownGeneration
from trioproxy.web.caller import Caller
from trioproxy.web.places import BROKER_LOST, ClusterDown, Overview, Placed
from trioproxy.web.replicas import About, reader_of, unpack_about
from trioproxy.web.surveys import Neighbours

CATCH_UP = 5.0
"""Seconds that a replica which is asked for by its id has to come as far as others have read."""


class Elsewhere:
    """See :class:`~trioproxy.web.places.Elsewhere`. ``node`` is this one."""

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self._node = node
        self._hub = node.hub
        self._neighbours = Neighbours(node.name, node.hub, node.ask)

    @asynccontextmanager
    async def reach(
        self, caller: Caller, generation_id: str, after: int | None, up_to_now: bool
    ) -> AsyncGenerator[Generation]:
        ref, known, about = await self._look(caller, generation_id)
        if up_to_now:
            told = await self._neighbours.find_end(caller, generation_id, known.node)
            after = max(told or 0, _end_of(known))
        with ExitStack() as stack:
            try:
                async with self._node.turn(ref.request):
                    holding = self._hold_replica(generation_id)
                    if holding is not None:
                        subscriber = stack.enter_context(holding)
                    else:
                        async with self._node.reach(ref) as followed:
                            subscriber = stack.enter_context(self._start(followed, about))
            except NotRunning:
                raise _unknown(generation_id) from None
            except BrokerError as error:
                raise ClusterDown from error
            await _catch_up(subscriber, after)
            yield subscriber.generation

    def _hold_replica(self, generation_id: str) -> AbstractContextManager[Subscriber] | None:
        """The one that is here, unless it was cut off."""
        try:
            outcome = self._hub.get(generation_id).outcome
        except FanoutError:
            return None
        if outcome is not None and outcome.reason == BROKER_LOST:
            return None
        return self._hub.subscribe(generation_id, counts=False)

    async def _look(self, caller: Caller, generation_id: str) -> tuple[Ref, Known, About]:
        """What there is of a generation. Raises what :meth:`reach` does."""
        ref = Ref.parse(generation_id)
        if ref is None:
            raise _unknown(generation_id)
        try:
            known = await self._node.look(ref)
            about = unpack_about(known.about)
        except (NotRunning, ValueError):
            raise _unknown(generation_id) from None
        except BrokerError as error:
            raise ClusterDown from error
        if not caller.may_see(about.tenant):
            raise _unknown(generation_id)
        return ref, known, about

    def _start(self, followed: Followed, about: About) -> AbstractContextManager[Subscriber]:
        origin = about.origin()
        placed = replica_of(self._node, followed)
        assert placed.follow is not None
        key = None if about.key is None else (about.tenant, about.key)
        return self._hub.join(
            None if self._hub.find(key) is not None else key,
            placed.follow(origin),
            when_full="trim" if origin.streamed else "fail",
            tenant=about.tenant,
            origin=origin,
            identity=placed.identity,
            counts=False,
        )

    @asynccontextmanager
    async def reach_response(
        self, caller: Caller, response_id: str
    ) -> AsyncGenerator[Generation | None]:
        position = await self._neighbours.find_response(caller, response_id)
        async with AsyncExitStack() as stack:
            generation = None
            with suppress(UnknownGeneration):
                generation = await stack.enter_async_context(
                    self._reach_published(caller, response_id)
                    if position is None
                    else self.reach(caller, position.generation_id, position.after, False)
                )
            yield generation

    @asynccontextmanager
    async def _reach_published(
        self, caller: Caller, response_id: str
    ) -> AsyncGenerator[Generation]:
        """Of a node that does not tell of it, but has published it."""
        try:
            ref = await self._node.resolve(response_id)
        except BrokerError as error:
            raise ClusterDown from error
        if ref is None:
            raise UnknownGeneration(f"there is no response {response_id}")
        async with self.reach(caller, ref.public_id, None, True) as generation:
            yield generation

    async def survey(self, caller: Caller) -> Overview:
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


def _end_of(known: Known) -> int:
    """How far its log has come: the last seq, and one more where it has ended."""
    return known.last + (known.state in ("ended", "lost"))


async def _catch_up(subscriber: Subscriber, after: int | None) -> None:
    with trio.move_on_after(CATCH_UP):
        await subscriber.generation.wait_opened()
        while after is not None and subscriber.cursor < after:
            try:
                await anext(subscriber)
            except StopAsyncIteration:
                break


def replica_of(node: Node, followed: Followed) -> Placed:
    """Where a call is answered that another node makes."""
    identity = Identity(followed.ref.public_id, is_replica=True)
    return Placed(
        identity,
        lambda origin: node.mirror(followed, reader_of(origin), needs_head=not origin.streamed),
    )


def _unknown(generation_id: str) -> UnknownGeneration:
    return UnknownGeneration(f"there is no generation {generation_id}")
