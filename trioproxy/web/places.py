"""Where generations run: here, or at another node of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from trioproxy.fanout import Generation, Identity, Source, UnknownGeneration
from trioproxy.gateway import Allowance
from trioproxy.web.asking import Asking, Origin
from trioproxy.web.caller import Caller

Link = Literal["up", "partly", "down"]


class ClusterDown(Exception):
    """What the nodes share cannot be asked now, and without it nothing is begun."""


class Ticket:
    """A request that was counted before it was let in. One that is not used is counted no more."""

    is_used = False

    def use(self) -> None:
        """It is let in."""
        self.is_used = True


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a call is answered: the ``identity`` of its generation (None: nobody need know of it,
    or it runs here), and what makes the source of its replica, where another node makes the call
    (None: it is made here). ``ticket`` is there if all nodes together have counted the request."""

    identity: Identity | None
    follow: Callable[[Origin], Source] | None = None
    ticket: Ticket | None = None


class LimitsOfAll(Protocol):
    """The limits of tenants that hold for all nodes together."""

    def counted(self, tenant: str) -> AbstractAsyncContextManager[Ticket | None]:
        """Count one request. In the block its ticket is to be used, or it is counted no more. None
        where it has no limit, or this node counts by itself for now.

        Raises :class:`~trioproxy.gateway.RateLimited` and :class:`ClusterDown`. If cancelled, it
        may have been counted.
        """
        ...

    def look(self, tenant: str) -> Allowance | None:
        """What is left for a tenant, as far as this node has heard; None where it has no limit."""
        ...

    def seat(self, tenant: str) -> AbstractAsyncContextManager[None]:
        """Have room for another subscriber of a tenant's generations, who is to join in the block.

        Raises :class:`~trioproxy.fanout.TooManySubscribers` and :class:`ClusterDown`. If cancelled,
        nothing is held.
        """
        ...


class Places(Protocol):
    """Decides where a call is made, and finds what runs elsewhere. ``limits`` are those that all
    places have together, None where there is one."""

    @property
    def limits(self) -> LimitsOfAll | None: ...

    def place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None]
    ) -> AbstractAsyncContextManager[Placed]:
        """Find out where a call is answered, and whether its tenant may have it. In the block its
        generation is to be joined or started, without a wait.

        Raises what ``key_to_join`` does, :class:`ClusterDown`, and what tells that a limit has been
        reached. If cancelled, nothing is held.
        """
        ...

    async def reach(self, caller: Caller, generation_id: str, after: int | None) -> Generation:
        """The replica of a generation that is not here, as far as event ``after`` if that has come.
        It lingers for a moment. Raises :class:`~trioproxy.fanout.UnknownGeneration` and
        :class:`ClusterDown`."""
        ...

    def stop(self, generation: Generation) -> None:
        """End a generation for everyone, wherever it runs."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether calls can be placed now."""
        ...

    @property
    def link(self) -> Link | None:
        """Whether there is a link to what the nodes share; None where they share nothing."""
        ...


class Alone:
    """There is no other node."""

    limits = None

    def place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None]
    ) -> AbstractAsyncContextManager[Placed]:
        return _HERE

    async def reach(self, caller: Caller, generation_id: str, after: int | None) -> Generation:
        raise UnknownGeneration(f"there is no generation {generation_id}")

    def stop(self, generation: Generation) -> None:
        generation.cancel("stopped")

    is_ready = True
    link = None


_HERE = nullcontext(Placed(None))
