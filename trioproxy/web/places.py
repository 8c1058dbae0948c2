"""Where generations run: here, or at another node of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from trioproxy.fanout import Generation, Identity, Source
from trioproxy.gateway import Allowance
from trioproxy.web.asking import Asking, Origin
from trioproxy.web.caller import Caller

Link = Literal["up", "partly", "down"]


class ClusterDown(Exception):
    """What the nodes share cannot be asked now, and without it nothing is begun."""

    def __init__(self) -> None:
        super().__init__("what the nodes share cannot be reached: try again")


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


BROKER_LOST = "broker_lost"
"""The reason why a replica ended whose original may go on: it can be read anew."""


class Overview(NamedTuple):
    """What the nodes have, together: ``rows`` as JSON, those that run first, each oldest first, and
    ``totals``. It is what ``nodes`` have told, of which those in ``truncated`` have more; those in
    ``missing`` have not answered (None: it is not known who is there)."""

    rows: Sequence[Mapping[str, Any]]
    totals: Mapping[str, object]
    nodes: Sequence[str]
    missing: Sequence[str] | None
    truncated: Sequence[str]


class Elsewhere(Protocol):
    """What other nodes run."""

    def reach(
        self, caller: Caller, generation_id: str, after: int | None, up_to_now: bool
    ) -> AbstractAsyncContextManager[Generation]:
        """Hold the replica of a generation that another node runs, as far as event ``after`` if
        that has come, or as far as the other node has come by now. Who is to read it joins in the
        block: it is there for nobody else. Raises :class:`~trioproxy.fanout.UnknownGeneration` and
        :class:`ClusterDown`. If cancelled, nothing is held."""
        ...

    def reach_response(
        self, caller: Caller, response_id: str
    ) -> AbstractAsyncContextManager[Generation | None]:
        """Likewise, up to now, the one that is the response which the engine calls so; None if no
        node has it. Raises :class:`ClusterDown`."""
        ...

    async def survey(self, caller: Caller) -> Overview:
        """What all nodes have that is a caller's to see."""
        ...

    async def describe(self, caller: Caller, generation_id: str) -> Mapping[str, Any] | None:
        """What all nodes have of one generation, as JSON; None where no node tells."""
        ...

    async def tell_timing(self, caller: Caller, generation_id: str) -> bytes | None:
        """The timing of a generation as the node tells it that runs it, as JSON; None where it does
        not."""
        ...

    @property
    def name(self) -> str:
        """What this node is called by others."""
        ...


class Places(Protocol):
    """Decides where a call is made, and finds what runs elsewhere. ``limits`` are those that all
    places have together, None where there is one."""

    @property
    def limits(self) -> LimitsOfAll | None: ...

    def place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None], *, is_read: bool
    ) -> AbstractAsyncContextManager[Placed]:
        """Find out where a call is answered, and whether its tenant may have it. In the block its
        generation is to be joined or (if not ``is_read`` yet) started, without a wait.

        Raises what ``key_to_join`` does, :class:`ClusterDown`, and what tells that a limit has been
        reached. If cancelled, nothing is held.
        """
        ...

    def stop(self, generation: Generation) -> None:
        """End a generation for everyone, wherever it runs."""
        ...

    @property
    def elsewhere(self) -> Elsewhere | None:
        """What other nodes run; None where there are none."""
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
        self, asking: Asking, key_to_join: Callable[[], Hashable | None], *, is_read: bool
    ) -> AbstractAsyncContextManager[Placed]:
        return _HERE

    elsewhere = None

    def stop(self, generation: Generation) -> None:
        generation.cancel("stopped")

    is_ready = True
    link = None


_HERE = nullcontext(Placed(None))
