"""What other nodes of the cluster run, as this one has it: replicas, and what the others tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from trioproxy.cluster import BrokerError, Followed, Known, Node, NotRunning, Ref
from trioproxy.fanout import FanoutError, Generation, Identity, UnknownGeneration
from trioproxy.web.caller import Caller
from trioproxy.web.places import BROKER_LOST, ClusterDown, Overview, Placed
from trioproxy.web.replicas import About, reader_of, unpack_about
from trioproxy.web.surveys import Neighbours

REACHED = 5.0
"""Seconds that a replica which was asked for by its id lingers, and has to catch up with what was
read elsewhere."""


class Elsewhere:
    """See :class:`~trioproxy.web.places.Elsewhere`. ``node`` is this one."""

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self._node = node
        self._hub = node.hub
        self._neighbours = Neighbours(node.name, node.hub, node.ask)

    async def reach(
        self, caller: Caller, generation_id: str, after: int | None, up_to_now: bool
    ) -> Generation:
        ref, known, about = await self._look(caller, generation_id)
        if up_to_now:
            after = await self._neighbours.find_end(caller, generation_id, known.node)
        try:
            async with self._node.turn(ref.request):
                generation = self._find_replica(generation_id)
                if generation is None:
                    async with self._node.reach(ref) as followed:
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
            generation = self._hub.get(generation_id)
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
            known = await self._node.look(ref)
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
        placed = replica_of(self._node, followed)
        assert placed.follow is not None
        key = None if about.key is None else (about.tenant, about.key)
        return self._hub.start(
            None if self._hub.find(key) is not None else key,
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
            self._hub.subscribe(generation.id, linger=REACHED, counts=False) as subscriber,
        ):
            await generation.wait_opened()
            while after is not None and subscriber.cursor < after:
                try:
                    await anext(subscriber)
                except StopAsyncIteration:
                    break

    async def reach_response(self, caller: Caller, response_id: str) -> Generation | None:
        position = await self._neighbours.find_response(caller, response_id)
        if position is None:
            return None
        return await self.reach(caller, position.generation_id, position.after, False)

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


def replica_of(node: Node, followed: Followed) -> Placed:
    """Where a call is answered that another node makes."""
    identity = Identity(followed.ref.public_id, is_replica=True)
    return Placed(identity, lambda origin: node.mirror(followed, reader_of(origin)))


def _unknown(generation_id: str) -> UnknownGeneration:
    return UnknownGeneration(f"there is no generation {generation_id}")
