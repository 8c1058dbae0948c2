"""How the connections of a lane stand, all together: its link is there when each of them is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio
from coredis.connection import BaseConnection

from trioproxy.cluster.errors import BrokerError
from trioproxy.cluster.link import Link
from trioproxy.cluster.watching import NodeWatch

logger = logging.getLogger(__name__)


class Standing:
    """Logs when the link is lost, and when it is there again: once, however many attempts it takes.
    While it is not there, another kind of error is another line."""

    def __init__(self, lane: int, watch: NodeWatch) -> None:
        self._lane = lane
        self._links: list[Link] = []
        self._watch = watch
        self._is_up = False
        self._down_since = trio.current_time()
        self._told: set[type[BrokerError]] = set()

    def add(
        self,
        connect: Callable[[], Awaitable[BaseConnection]],
        deadline: float,
        longest_pause: float,
    ) -> Link:
        """Make another, which is part of it from now on. See :class:`Link`."""
        link = Link(connect, deadline, longest_pause, self._changed)
        self._links.append(link)
        return link

    @property
    def up_since(self) -> float | None:
        """When the last of the present connections was made; None where one is missing."""
        since = [link.up_since for link in self._links]
        known = [when for when in since if when is not None]
        return max(known) if len(known) == len(since) else None

    def _changed(self, link: Link) -> None:
        now = trio.current_time()
        if self.up_since is not None:
            self._is_up = True
            self._told.clear()
            self._watch.linked()
            seconds = now - self._down_since
            logger.info("lane %d is linked to the broker, after %.1f s", self._lane, seconds)
        elif link.up_since is None:
            if self._is_up:
                self._is_up, self._down_since = False, now
            if type(link.error) not in self._told:
                self._told.add(type(link.error))
                logger.warning("lane %d has no link to the broker: %s", self._lane, link.error)
