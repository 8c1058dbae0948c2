"""When a generation ends that nobody reads at the node which owns it.

At its time the node asks the broker whether the generation can be closed, which it can if nobody is
interested; in the same step nobody can be any more. For that moment the generation lingers (its
*notice*).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import trio

from trioproxy.cluster.broker import Lease
from trioproxy.cluster.errands import Errands
from trioproxy.cluster.errors import BrokerDown, BrokerError
from trioproxy.cluster.publishing import PAUSE

logger = logging.getLogger(__name__)

NOTICE = 0.4
"""Seconds that the broker has to say whether a generation can be closed of which nobody elsewhere
was heard. If it does not say so, the generation is closed: what is certain is that nobody reads it
here."""


class Parting:
    """That of one generation. ``is_deserted`` tells whether it runs and nobody reads it here, and
    ``is_wanted`` whether somebody elsewhere did as was heard last. ``close`` ends it; ``keep`` has
    it published for who is interested; ``reopen`` is told that it was closed for a moment.

    ``is_asking`` says that the broker is being asked.
    """

    def __init__(
        self,
        lease: Lease,
        errands: Errands,
        *,
        is_deserted: Callable[[], bool],
        is_wanted: Callable[[], bool],
        close: Callable[[], None],
        keep: Callable[[], None],
        reopen: Callable[[], None],
    ) -> None:
        self.is_asking = False
        self._lease = lease
        self._errands = errands
        self._is_deserted = is_deserted
        self._is_wanted = is_wanted
        self._close = close
        self._keep = keep
        self._reopen = reopen
        self._at: float | None = None
        self._patience: trio.CancelScope | None = None  # while its task runs

    @property
    def is_near(self) -> bool:
        """Whether its time is set. When it has come, and the broker is asked, it is not."""
        return self._at is not None

    def be_in(self, seconds: float) -> None:
        """Set its time, or set it anew. Synchronous."""
        self._at = trio.current_time() + seconds
        if self._patience is not None:
            self._patience.deadline = self._at
            return
        self._patience = trio.CancelScope(deadline=self._at)
        self._errands.run(self._run, name=f"parting of {self._lease.ref.public_id}")

    def drop(self) -> None:
        """The generation has ended."""
        self._at = None
        if self._patience is not None:
            self._patience.cancel(reason="it has ended")

    async def _run(self) -> None:
        try:
            while self._at is not None:
                self._patience = trio.CancelScope(deadline=self._at)
                with self._patience:
                    await trio.sleep_forever()
                self._at = None  # whoever leaves from now on sets it again
                if self._is_deserted():
                    await self._part()
        finally:
            self._patience = None

    async def _part(self) -> None:
        if not await self._can_be_closed():
            self._keep()
        elif self._is_deserted() and (self._at is None or self._at <= trio.current_time()):
            self._close()
        else:  # somebody came while the broker was asked
            with self._asking(), suppress(BrokerError):  # or else the next renewal opens it
                await self._errands.broker.renew([self._lease])
            self._reopen()

    async def _can_be_closed(self) -> bool:
        """For as long as somebody elsewhere may hold this node for alive, the answer is waited
        for."""
        lease = self._errands.broker.terms.lease
        until = trio.current_time() + (lease if self._is_wanted() else NOTICE)
        with trio.move_on_at(until):
            while True:
                with self._asking(), trio.move_on_after(NOTICE):
                    try:
                        return await self._errands.broker.close_if_empty(self._lease)
                    except BrokerDown:
                        pass  # it is asked again
                    except BrokerError as error:
                        logger.info("%s is closed unasked: %s", self._lease.ref.public_id, error)
                        return True
                await trio.sleep(PAUSE)
        return True

    @contextmanager
    def _asking(self) -> Generator[None]:
        self.is_asking = True
        try:
            yield
        finally:
            self.is_asking = False
