"""What a node has in a lane, and the heartbeat that holds it: each lane has its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio

from trioproxy.cluster.broker import OWNER_LOST, Broker
from trioproxy.cluster.entries import Ending
from trioproxy.cluster.errors import BrokerError, NotRunning
from trioproxy.cluster.following import Followed, Follower
from trioproxy.cluster.holding import Holder
from trioproxy.cluster.keys import Ref
from trioproxy.cluster.owning import Owner
from trioproxy.cluster.surveys import Surveys
from trioproxy.cluster.watching import NodeWatch
from trioproxy.fanout.outcome import failed

T = TypeVar("T")

logger = logging.getLogger(__name__)

BEATS = 4
"""Heartbeats in a lease."""


AT_ONCE = 50
"""Of so many generations the broker is told in one step."""

BREATH = 0.005
"""Seconds between two such steps: tokens come first."""


async def tried(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask the broker for what would come true without it, only later."""
    try:
        await ask()
    except BrokerError as error:
        logger.debug("the broker was asked in vain: %s", error)


@dataclass(eq=False)
class AtLane:
    """What the node owns in a lane, what it follows there, how much it tells of there, and what is
    asked. ``settled_at`` is since when the link was up with which it was seen that the broker's
    memory is not new."""

    broker: Broker
    owner: Owner
    follower: Follower
    holder: Holder
    watch: NodeWatch
    surveys: Surveys
    settled_at: float | None = None

    async def beat(self) -> None:
        """Hold what is owned and followed. The body of a task."""
        while True:
            await self.broker.wait_up()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tried, self.broker.ping)
                for pool in self.holder.all_pools():
                    nursery.start_soon(tried, partial(self.holder.keep, pool))
                followed = [one for one in self.follower.followed.values() if not one.has_ended]
                running = [one for one in followed if not math.isinf(one.lease_ends)]
                for one in followed:
                    if math.isinf(one.lease_ends):
                        nursery.start_soon(tried, partial(self._look_for, one))
                await _in_turn(nursery, self.owner.renew, list(self.owner.owned.values()))
                await _in_turn(nursery, self._stay, running)
            await trio.sleep(self.broker.terms.lease / BEATS)

    async def _look_for(self, followed: Followed) -> None:
        """It has ended; but its log may be lost, unread."""
        try:
            await self.broker.look(followed.ref)
        except NotRunning:
            followed.add([Ending(followed.cursor.seq, failed("expired"))])

    async def _stay(self, some: Sequence[Followed]) -> None:
        """Stay interested in these, and see whether their owners still live."""
        replies = await self.broker.keep_interest([followed.ref for followed in some])
        async with trio.open_nursery() as nursery:
            for followed, left in zip(some, replies, strict=True):
                if isinstance(left, BrokerError):
                    nursery.start_soon(tried, partial(self._come_back, followed))
                elif self._has_run_out(followed, left):
                    nursery.start_soon(tried, partial(self.reap, followed.ref))

    async def _come_back(self, followed: Followed) -> None:
        """Be interested anew: the owner may have put it by, unread."""
        if self.follower.followed.get(followed.ref) is not followed:
            return
        try:
            joined = await self.broker.join(followed.ref, revive=True)
        except NotRunning as error:  # what has ended tells so in its log
            has_run_out = self.may_judge and trio.current_time() > followed.lease_ends
            if error.state == "unknown" and has_run_out:
                followed.add([Ending(followed.cursor.seq, OWNER_LOST)])
            return
        if self._has_run_out(followed, joined.lease_left):
            await self.reap(followed.ref)

    def _has_run_out(self, followed: Followed, left: float) -> bool:
        """Note what is left of its owner's lease; whether that is to be judged."""
        followed.lease_ends = trio.current_time() + left
        return left < 0 and self.may_judge

    async def reap(self, ref: Ref) -> None:
        """End it, if its owner's lease has run out. Raises as :meth:`Broker.reap` does."""
        if await self.broker.reap(ref):
            self.watch.reaped()

    @property
    def may_judge(self) -> bool:
        """Whether this node's own link has been well for so long that a lease which has run out
        must be its owner's fault."""
        since = self.broker.up_since
        return since is not None and trio.current_time() - since > 1.5 * self.broker.terms.lease

    async def settle(self) -> None:
        """Where the broker's memory is new, let the owners restore what they run, before somebody
        runs it a second time."""
        since = self.broker.up_since
        if since is None or since != self.settled_at:
            age = await self.broker.ping()
            await trio.sleep(max(0.0, self.broker.terms.lease / 3 - age))
            self.settled_at = since


async def _in_turn(
    nursery: trio.Nursery, hold: Callable[[Sequence[T]], Awaitable[None]], all_of_them: Sequence[T]
) -> None:
    """Hold them all, some at a time: who beats goes on when the last have been asked for."""
    for begin in range(0, len(all_of_them), AT_ONCE):
        if begin:
            await trio.sleep(BREATH)
        nursery.start_soon(tried, partial(hold, all_of_them[begin : begin + AT_ONCE]))
