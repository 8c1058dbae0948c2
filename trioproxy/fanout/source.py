"""What a generation reads from: the one port through which the core touches the world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from trioproxy.fanout.errors import FanoutError
from trioproxy.fanout.event import Arrival, Gap
from trioproxy.fanout.outcome import Outcome


class Ended(FanoutError):
    """Raised by a feed in place of its end, or by a source in place of being entered, where that
    was decided elsewhere: the generation has this ``outcome``."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.kind)
        self.outcome = outcome


class Feed(Protocol):
    """An entered source. Iterating yields what each read brought, one sequence of arrivals a read.

    ``head`` is whatever the source knew when it was entered (for HTTP: status and headers); the
    core hands it on and never looks inside. Iteration must not swallow cancellation, raises
    :class:`SourceFailed` when the stream breaks off, and ends where the stream does; an end that no
    arrival has decided counts as truncation. A feed that is itself a copy may lack events, and
    yields the :class:`Gap` in their place; how what it copies ended it tells by :class:`Ended`.
    """

    @property
    def head(self) -> object: ...

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival] | Gap]: ...


Source = AbstractAsyncContextManager[Feed, bool | None]
"""One upstream call, not yet made. It is entered once at most, inside its generation's nursery, and
left there: leaving, by whatever way, releases everything that entering acquired. A source whose
request joined a running generation is never entered, so making one must acquire nothing."""
