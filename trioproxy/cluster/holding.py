"""What this node has of what all nodes may have so many of.

The truth is here: the hub counts what each tenant has of it (its shares), and the broker is told
the number, not what has changed. So what was told twice, or heard by nobody, or lost with the
broker's memory is put right by telling it again, which each heartbeat does; and what a node had
that is gone is free a lease later.

To have one more is to be asked for first: who comes while the broker is asked is asked for with all
who have come by then. What is granted is *pending* until it is begun: counted, and not there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from trioproxy.cluster.broker import Broker
from trioproxy.cluster.errors import BrokerDown, BrokerError
from trioproxy.cluster.keys import Account, Use
from trioproxy.fanout.limits import Shares

MOST_EMPTY = 1000
"""Of so many it is remembered, while the broker is away, that there is nothing left to be had; of
others the lease tells it, by running out."""


class NoRoom(BrokerError):
    """All nodes together have as many as they may."""


class Claim:
    """One more that is wanted. ``is_granted`` is None while that is not known; ``is_wanted`` ends
    with who wants it."""

    def __init__(self) -> None:
        self.is_granted: bool | None = None
        self.is_wanted = True


class Pool:
    """What this node has of one account, and who waits for more. ``told`` is what the broker knows
    of it, None where that is not certain. ``users`` are those who hold on to it; ``is_telling``
    says that a task is about to tell."""

    def __init__(self, account: Account, counts: Mapping[str, int]) -> None:
        self.account = account
        self._counts = counts
        self.claims: list[Claim] = []
        self.pending = 0
        self.told: int | None = None
        self.users = 0
        self.is_telling = False
        self.lock = trio.Lock()
        """One question at a time: each counts what those before it came to."""

    @property
    def number(self) -> int:
        """What there is, and what is about to be."""
        return self._counts[self.account.tenant] + self.pending

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing, and nobody has anything to do with it."""
        return not (self.number or self.users or self.is_telling)


class Holder:
    """That of one node, in a lane, for the tenants that it ``is_told_here`` of. What it starts are
    ``errands``, tasks of a nursery that outlives the generations; what they do not get to tell, the
    lease tells by running out."""

    def __init__(
        self,
        broker: Broker,
        shares: Shares,
        errands: trio.Nursery,
        is_told_here: Callable[[str], bool],
    ) -> None:
        self._broker = broker
        self._shares = shares
        self._is_told_here = is_told_here
        self._counts: dict[Use, Counter[str]] = {
            "generations": shares.generations,
            "subscribers": shares.subscribers,
        }
        self._errands = errands
        self._pools: dict[Account, Pool] = {}

    def all_pools(self) -> list[Pool]:
        """Those that are to be kept; also of tenants that had no limit when they began."""
        for use, counts in self._counts.items():
            for tenant in counts:
                account = Account(tenant, use)
                if account not in self._pools and self._is_limited(account):
                    self._pools[account] = Pool(account, counts)
        return list(self._pools.values())

    def _is_limited(self, account: Account) -> bool:
        tenant, use = account
        share = self._shares.share_of(tenant)
        most = share.max_generations if use == "generations" else share.max_subscribers
        return not math.isinf(most) and self._is_told_here(tenant)

    @asynccontextmanager
    async def hold(self, account: Account, most: float, *, patience: float) -> AsyncGenerator[None]:
        """Have room for one more of ``most``, for the length of the block, in which it is to be
        begun.

        Raises :class:`NoRoom`, and another :class:`BrokerError` where the broker does not say so in
        ``patience`` seconds. If cancelled, nothing is held.
        """
        pool = self._pools.get(account)
        if pool is None:
            pool = self._pools[account] = Pool(account, self._counts[account.use])
        claim = Claim()
        pool.claims.append(claim)
        pool.users += 1
        try:
            await self._ask(pool, claim, most, patience)
            yield
        finally:
            claim.is_wanted = False
            pool.pending -= bool(claim.is_granted)
            pool.users -= 1
            if pool.number != pool.told:
                self._tell_soon(pool)

    def changed(self, account: Account) -> None:
        """There are fewer here than there were, when this step is done."""
        pool = self._pools.get(account)
        if pool is not None:
            self._tell_soon(pool)

    async def keep(self, pool: Pool) -> None:
        """Tell the broker what there is, for a lease more. Raises :class:`BrokerError`."""
        async with pool.lock:
            await self._keep(pool)

    async def _keep(self, pool: Pool) -> None:
        if self._pools.get(pool.account) is not pool:
            return  # it was empty, and has been told so
        number = pool.number
        pool.told = None
        await self._broker.keep_holding(pool.account, number)
        pool.told = number
        if not number and pool.is_empty:
            del self._pools[pool.account]

    async def _ask(self, pool: Pool, claim: Claim, most: float, patience: float) -> None:
        """On return it is granted."""
        with trio.move_on_after(patience):
            async with pool.lock:
                if claim.is_granted is None:  # else it was asked for with another
                    await self._ask_for_all(pool, most)
        if claim.is_granted is None:
            raise BrokerDown(f"the broker does not answer within {patience:g} seconds")
        if not claim.is_granted:
            raise NoRoom(f"all nodes together have {most:g} already")

    async def _ask_for_all(self, pool: Pool, most: float) -> None:
        """Settle what is wanted now. Where no answer comes, each asks again for itself."""
        pool.claims = [claim for claim in pool.claims if claim.is_wanted]
        claims = tuple(pool.claims)
        number = pool.number
        pool.told = None
        pool.told = await self._broker.hold(pool.account, number + len(claims), most)
        pool.claims = pool.claims[len(claims) :]
        room = max(0, pool.told - number)
        for claim in claims:
            claim.is_granted = claim.is_wanted and room > 0
            if claim.is_granted:
                room -= 1
                pool.pending += 1

    def _tell_soon(self, pool: Pool) -> None:
        """Have the broker told what it does not know."""
        if not pool.is_telling:
            pool.is_telling = True
            self._errands.start_soon(self._tell, pool, name="telling what is held")

    async def _tell(self, pool: Pool) -> None:
        async with pool.lock:
            pool.is_telling = False
            if pool.number != pool.told:
                try:
                    await self._keep(pool)
                except BrokerError:  # the next heartbeat tells it
                    if pool.is_empty and len(self._pools) > MOST_EMPTY:
                        del self._pools[pool.account]
