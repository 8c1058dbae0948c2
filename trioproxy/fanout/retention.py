"""What becomes of ended generations: data for a while, then a memory of their names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

import trio

from trioproxy.fanout.budget import Budget
from trioproxy.fanout.errors import ExpiredGeneration, SourceFailed, UnknownGeneration
from trioproxy.fanout.generation import Generation

REMEMBERED_IDS = 10_000
"""So many expired generations are still told from ones that never were."""

MAX_RETAINED = 10_000
"""So many are retained at most: what one holds beside its events is small, but not nothing."""


ROOM = 16
"""This part of the memory must be had, free or retained, for another generation to start."""


class Retention:
    """The generations that have ended and can still be read, oldest first.

    Time takes one away ``seconds`` after its end, or when its last reader has left if that is
    later; want of memory takes the oldest, readers or not (they are told of the gap). Time is
    looked at whenever somebody asks, so that there is no timer to own.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self.budget = Budget(max_bytes, self.forget_oldest)
        self._seconds = seconds
        self._retained: OrderedDict[str, tuple[Generation, float]] = OrderedDict()
        self._forgotten: OrderedDict[str, str] = OrderedDict()  # and whose they were

    def configure(self, seconds: float, max_bytes: int) -> None:
        """Retain so much, for so long, whatever ended before included."""
        self._seconds = seconds
        self.budget.max_bytes = max_bytes
        self.budget.relieve()

    @property
    def generations(self) -> Collection[Generation]:
        """Those that can be read now, oldest first."""
        self._forget_expired()
        return [generation for generation, _ in self._retained.values()]

    def add(self, generation: Generation) -> None:
        """Retain a generation that has just ended."""
        self._retained[generation.id] = (generation, trio.current_time())
        self.budget.used += _cost(generation)
        self.budget.relieve()
        if len(self._retained) > MAX_RETAINED:
            self.forget_oldest()
        self._forget_expired()

    def get(self, generation_id: str) -> Generation:
        """The retained generation with this id.

        Raises :class:`ExpiredGeneration` for one of the last 10,000 that are gone, else
        :class:`UnknownGeneration`.
        """
        self._forget_expired()
        if generation_id in self._retained:
            return self._retained[generation_id][0]
        if generation_id in self._forgotten:
            tenant = self._forgotten[generation_id]
            raise ExpiredGeneration(f"generation {generation_id} has expired", tenant)
        raise UnknownGeneration(f"there is no generation {generation_id}")

    def make_room(self) -> bool:
        """Free what one that is to start needs at the least; whether there is so much."""
        room = self.budget.max_bytes // ROOM
        self.budget.relieve(room)
        return self.budget.holds(room)

    def discard(self, generation_id: str) -> None:
        """Retain this replica no longer, if it is retained."""
        if generation_id in self._retained:
            self._forget(self._retained[generation_id][0])

    def forget_oldest(self) -> bool:
        """Give the memory of the oldest one back; False if there is none."""
        for generation, _ in self._retained.values():
            self._forget(generation)
            return True
        return False

    def _forget_expired(self) -> None:
        until = trio.current_time() - self._seconds
        expired: list[Generation] = []
        for generation, ended_at in self._retained.values():
            if ended_at > until:
                break
            if not generation.subscribers:
                expired.append(generation)
        for generation in expired:
            self._forget(generation)

    def _forget(self, generation: Generation) -> None:
        del self._retained[generation.id]
        generation.transcript.clear()
        self.budget.used -= _cost(generation)
        if generation.is_replica:
            return  # whether that can still be read which it copied is not known here
        self._forgotten[generation.id] = generation.tenant
        if len(self._forgotten) > REMEMBERED_IDS:
            self._forgotten.popitem(last=False)


def _cost(generation: Generation) -> int:
    error = generation.outcome.error if generation.outcome is not None else None
    return error.held_bytes if isinstance(error, SourceFailed) else 0
