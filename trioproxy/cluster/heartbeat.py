"""What a node has in a lane, and the heartbeat that holds it: each lane has its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio

from trioproxy.cluster.broker import OWNER_LOST, Broker
from trioproxy.cluster.entries import Ending
from trioproxy.cluster.errors import BrokerError, InterestLost, NotRunning
from trioproxy.cluster.following import Followed, Follower
from trioproxy.cluster.holding import Holder
from trioproxy.cluster.keys import Ref
from trioproxy.cluster.owning import Owner
from trioproxy.cluster.surveys import Surveys
from trioproxy.cluster.watching import NodeWatch
from trioproxy.fanout.outcome import failed

logger = logging.getLogger(__name__)

BEATS = 4
"""Heartbeats in a lease."""


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
                for owned in list(self.owner.owned.values()):
                    nursery.start_soon(tried, partial(self.owner.renew, owned))
                for followed in list(self.follower.followed.values()):
                    nursery.start_soon(tried, partial(self._keep, followed))
                for pool in self.holder.pools:
                    nursery.start_soon(tried, partial(self.holder.keep, pool))
            await trio.sleep(self.broker.terms.lease / BEATS)

    async def _keep(self, followed: Followed) -> None:
        """Stay interested, and see whether the owner still lives."""
        if followed.has_ended:
            return
        if math.isinf(followed.lease_ends):  # it has ended; but its log may be lost, unread
            try:
                await self.broker.look(followed.ref)
            except NotRunning:
                followed.add([Ending(followed.cursor.seq, failed("expired"))])
            return
        now = trio.current_time
        try:
            try:
                followed.lease_ends = now() + await self.broker.keep_interest(followed.ref)
            except (InterestLost, NotRunning):  # the owner may have put it by, unread
                if self.follower.followed.get(followed.ref) is not followed:
                    return
                joined = await self.broker.join(followed.ref, revive=True)
                followed.lease_ends = now() + joined.lease_left
        except NotRunning as error:  # what has ended tells so in its log
            if error.state == "unknown" and now() > followed.lease_ends and self.may_judge:
                followed.add([Ending(followed.cursor.seq, OWNER_LOST)])
            return
        if now() > followed.lease_ends and self.may_judge:
            await self.reap(followed.ref)

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
