"""Where generations run: here, or at another node of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from trioproxy.fanout import Generation, Identity, Source, UnknownGeneration
from trioproxy.web.asking import Asking
from trioproxy.web.caller import Caller
from trioproxy.wire import Tally


class ClusterDown(Exception):
    """What the nodes share cannot be asked now, and without it nothing is begun."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a call is answered: the ``identity`` of its generation, and what makes the source of
    its replica, where another node makes the call (None: it is made here)."""

    identity: Identity
    follow: Callable[[Tally], Source] | None = None


class Places(Protocol):
    """Decides where a call is made, and finds what runs elsewhere."""

    def place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None]
    ) -> AbstractAsyncContextManager[Placed | None]:
        """Find out where a call is answered. In the block its generation is to be joined or
        started, without a wait; None says that nobody need know of it, or that it runs here.

        Raises what ``key_to_join`` does, and :class:`ClusterDown`. If cancelled, nothing is held.
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


class Alone:
    """There is no other node."""

    def place(
        self, asking: Asking, key_to_join: Callable[[], Hashable | None]
    ) -> AbstractAsyncContextManager[Placed | None]:
        return _HERE

    async def reach(self, caller: Caller, generation_id: str, after: int | None) -> Generation:
        raise UnknownGeneration(f"there is no generation {generation_id}")

    def stop(self, generation: Generation) -> None:
        generation.cancel("stopped")

    is_ready = True


_HERE: nullcontext[Placed | None] = nullcontext(None)
