"""The limits of tenants, over all nodes of a cluster together.

A request is counted once, at the node that it comes to, before that node decides what answers it;
what is begun for it takes its place among all that run, and its reader among all who read. Whoever
has no limit is not asked for. While the broker does not answer, each node counts by itself, or
refuses, as the settings say.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

import trio

from trioproxy.cluster import Account, BrokerError, Node, NoRoom, Pace, Spent
from trioproxy.fanout import FanoutError, TooManyGenerations, TooManySubscribers
from trioproxy.gateway import Allowance, Quotas, RateLimited, Rates
from trioproxy.gateway.rates import MAX_TENANTS
from trioproxy.web.places import ClusterDown, Ticket

logger = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds that the broker has to say whether there is room."""


class SharedLimits:
    """See :class:`~trioproxy.web.places.LimitsOfAll`. ``quotas`` say what each tenant may; this
    node's own ``rates`` are what counts while it ``goes_alone``."""

    def __init__(self, node: Node, quotas: Quotas, rates: Rates, *, goes_alone: bool) -> None:
        self._node = node
        self._quotas = quotas
        self._rates = rates
        self._goes_alone = goes_alone
        self._told: OrderedDict[str, tuple[Spent, float]] = OrderedDict()

    @asynccontextmanager
    async def counted(self, tenant: str) -> AsyncGenerator[Ticket | None]:
        pace = self._pace_of(tenant)
        spent = None if pace is None else await self._spend(tenant, pace)
        if pace is None or spent is None:
            yield None
            return
        ticket = Ticket()
        try:
            yield ticket
        finally:
            if not ticket.is_used:
                self._node.give_back(Account(tenant, "requests"), pace, spent)

    def look(self, tenant: str) -> Allowance | None:
        pace, known = self._pace_of(tenant), self._told.get(tenant)
        if pace is None or known is None:
            return self._rates.look(tenant)
        spent, at = known
        reset = max(0.0, spent.reset - (trio.current_time() - at))
        remaining = spent.remaining
        if pace.burst is not None:
            flown = math.floor(spent.limit - reset * pace.per_minute / 60)
            remaining = max(remaining, flown)
        elif reset == 0:
            remaining = spent.limit
        return Allowance(spent.limit, remaining, reset)

    def seat(self, tenant: str) -> AbstractAsyncContextManager[None]:
        most = self._quotas.share_of(tenant).max_subscribers
        if math.isinf(most):
            return _ROOM
        words = f"all generations together have {most:g} subscribers already"
        return self._hold(Account(tenant, "subscribers"), most, TooManySubscribers(words))

    def room(self, tenant: str) -> AbstractAsyncContextManager[None]:
        """Have room for another generation, which is to be started in the block. Raises
        :class:`~trioproxy.fanout.TooManyGenerations` and :class:`ClusterDown`."""
        most = self._quotas.share_of(tenant).max_generations
        if math.isinf(most):
            return _ROOM
        refusal = TooManyGenerations(f"{most:g} generations are running already")
        return self._hold(Account(tenant, "generations"), most, refusal)

    @asynccontextmanager
    async def _hold(
        self, account: Account, most: float, refusal: FanoutError
    ) -> AsyncGenerator[None]:
        holder = self._node.holder_of(account.tenant)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(holder.hold(account, most, patience=PATIENCE))
            except NoRoom:
                raise refusal from None
            except BrokerError as error:
                self._go_alone(error)
            yield

    async def _spend(self, tenant: str, pace: Pace) -> Spent | None:
        """None where this node counts by itself."""
        spent = None
        try:
            with trio.move_on_after(PATIENCE):
                spending = self._node.broker_of(tenant).spend(Account(tenant, "requests"), pace)
                spent = await spending
        except BrokerError as error:
            self._go_alone(error)
        else:
            if spent is None:
                self._go_alone(None)
        self._note(tenant, spent)
        if spent is not None and not spent.is_let_in:
            raise RateLimited(spent.retry_after)
        return spent

    def _go_alone(self, why: BrokerError | None) -> None:
        if not self._goes_alone:
            raise ClusterDown from why
        logger.info("this node counts by itself: %s", why or "the broker does not answer")

    def _note(self, tenant: str, spent: Spent | None) -> None:
        """Keep what a tenant was told last, to tell it with other answers."""
        self._told.pop(tenant, None)
        if spent is not None:
            self._told[tenant] = spent, trio.current_time()
            if len(self._told) > MAX_TENANTS:
                self._told.popitem(last=False)

    def _pace_of(self, tenant: str) -> Pace | None:
        rate = self._quotas.rate_of(tenant)
        if rate is None:
            return None
        return Pace(rate.per_minute, rate.burst if rate.limiter == "token-bucket" else None)


_ROOM: nullcontext[None] = nullcontext()
"""For who has no limit."""
