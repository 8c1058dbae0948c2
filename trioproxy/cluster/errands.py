"""What a node tells the broker besides: tasks of a nursery that outlives the generations."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

from trioproxy.cluster.broker import Broker
from trioproxy.cluster.errors import BrokerDown, BrokerError
from trioproxy.cluster.publishing import PAUSE

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger(__name__)


class Errands:
    """Each ends when the broker has answered, and can be cancelled before: then what it had to tell
    comes true later, as a lease runs out."""

    def __init__(self, nursery: trio.Nursery, broker: Broker) -> None:
        self.broker = broker
        self._nursery = nursery

    def run(self, errand: Callable[[*Ts], Awaitable[object]], *arguments: *Ts, name: str) -> None:
        """Start one. Synchronous."""
        self._nursery.start_soon(errand, *arguments, name=name)

    async def try_to(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Ask until the broker has answered. None where it says that it cannot be done."""
        while True:
            try:
                return await ask()
            except BrokerDown:
                await trio.sleep(PAUSE)
                await self.broker.wait_up()
            except BrokerError as error:
                logger.info("the broker was told in vain: %s", error)
                return None
