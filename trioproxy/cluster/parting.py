"""When a generation ends that nobody reads at the node which owns it.

At its time the node asks the broker whether the generation can be closed, which it can if nobody is
interested; in the same step nobody can be any more. For that moment the generation lingers (its
*notice*).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import trio

from trioproxy.cluster.broker import Lease
from trioproxy.cluster.errands import Errands
from trioproxy.cluster.errors import BrokerError

logger = logging.getLogger(__name__)

NOTICE = 0.4
"""Seconds that the broker has to say whether a generation can be closed. If it does not say so, the
generation is closed: what is certain is that nobody reads it here."""


class Parting:
    """That of one generation. ``is_deserted`` tells whether it runs and nobody reads it here;
    ``close`` ends it, ``keep`` has it published for who is interested.

    ``is_asking`` says that the broker is being asked.
    """

    def __init__(
        self,
        lease: Lease,
        errands: Errands,
        *,
        is_deserted: Callable[[], bool],
        close: Callable[[], None],
        keep: Callable[[], None],
    ) -> None:
        self.is_asking = False
        self._lease = lease
        self._errands = errands
        self._is_deserted = is_deserted
        self._close = close
        self._keep = keep
        self._patience: trio.CancelScope | None = None

    @property
    def is_near(self) -> bool:
        """Whether its time has been set."""
        return self._patience is not None

    def be_in(self, seconds: float) -> None:
        """Set its time, or set it anew. Synchronous."""
        at = trio.current_time() + seconds
        if self._patience is not None:
            self._patience.deadline = at
            return
        self._patience = trio.CancelScope(deadline=at)
        name = f"parting of {self._lease.ref.public_id}"
        self._errands.run(self._wait_and_part, self._patience, name=name)

    def drop(self) -> None:
        """The generation has ended."""
        if self._patience is not None:
            self._patience.cancel(reason="it has ended")

    async def _wait_and_part(self, patience: trio.CancelScope) -> None:
        try:
            with patience:
                await trio.sleep_forever()
            if not self._is_deserted():
                return
            self.is_asking = True
            if not await self._can_be_closed():
                self._keep()
            elif self._is_deserted():
                self._close()
            else:  # somebody came while the broker was asked
                with suppress(BrokerError):  # or else the next renewal opens it
                    await self._errands.broker.renew(self._lease)
        finally:
            self._patience, self.is_asking = None, False

    async def _can_be_closed(self) -> bool:
        with trio.move_on_after(NOTICE):
            try:
                return await self._errands.broker.close_if_empty(self._lease)
            except BrokerError as error:
                logger.info("%s is closed unasked: %s", self._lease.ref.public_id, error)
        return True
