"""What a node reads of others: its mailbox, and the logs of all generations that it follows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from trioproxy.cluster.broker import MAIL_START, Broker, Joined, Letter
from trioproxy.cluster.entries import START, Ending, Head, Part
from trioproxy.cluster.errors import BrokerDown, BrokerError
from trioproxy.cluster.keys import Ref

logger = logging.getLogger(__name__)

READ_SECONDS = 10.0
"""How long one read waits for news; the next one takes up where it ended."""

PAUSE = 0.1
"""Seconds before the broker is asked again that has just not answered."""


class BrokerLost(Exception):
    """The broker was away for longer than readers are kept waiting."""


class Followed:
    """A log as far as it has come. ``node`` owns the generation, and ``lease_ends`` is by when it
    must have renewed, by trio's clock, as was heard last (infinity: nobody need renew). ``ran``
    says that it was begun to be followed while it ran, so that it cannot have been abandoned.

    What comes waits here until one task takes it; that task only appends it to a transcript, so
    what waits is what a read brings.
    """

    def __init__(self, ref: Ref, node: str, lease_ends: float, *, ran: bool) -> None:
        self.ref = ref
        self.ran = ran
        self.node = node
        self.lease_ends = lease_ends
        self.cursor = START
        self.has_ended = False
        self._parts: list[Part] = []
        self._lost: BrokerLost | None = None
        self._news = trio.lowlevel.ParkingLot()

    def add(self, parts: Sequence[Part]) -> None:
        """Note what has come. Of heads the first counts: one that was restored is there twice."""
        self._parts += parts
        self.has_ended = self.has_ended or any(isinstance(part, Ending) for part in parts)
        self._news.unpark_all()

    def lose(self, why: BrokerLost) -> None:
        """Have who waits raise this."""
        self._lost = why
        self._news.unpark_all()

    async def take(self) -> list[Part]:
        """Wait for news, and take all of it. Raises :class:`BrokerLost`. If cancelled, nothing was
        taken."""
        await trio.lowlevel.checkpoint()
        while not self._parts:
            if self._lost is not None:
                raise self._lost
            await self._news.park()
        parts, self._parts = self._parts, []
        return parts


class Follower:
    """The one reader of a node. ``patience`` is for how many seconds the broker may be away before
    who follows something is told that it is lost."""

    def __init__(
        self, broker: Broker, on_letter: Callable[[Letter], None], patience: float
    ) -> None:
        self.followed: dict[Ref, Followed] = {}
        self._broker = broker
        self._on_letter = on_letter
        self._patience = patience
        self._mail = MAIL_START  # a node's name is new with each process
        self._reading = trio.CancelScope()
        self._has_more = False  # logs than the read that waits knows of
        self._failing_since: float | None = None

    def follow(self, ref: Ref, joined: Joined | None, node: str, *, ran: bool) -> Followed:
        """Read this log from its start; one that has ended where it was not ``joined``."""
        ends = trio.current_time() + joined.lease_left if joined is not None else float("inf")
        followed = self.followed[ref] = Followed(ref, node, ends, ran=ran)
        if joined is not None and joined.head is not None:
            followed.add([Head(joined.head)])
        self._has_more = True
        self._reading.cancel(reason="there is another log to read")
        return followed

    def forget(self, ref: Ref) -> None:
        """Read this log no more."""
        self.followed.pop(ref, None)

    async def run(self) -> None:
        """Read until cancelled. The body of a task."""
        while True:
            try:
                if self._has_more:  # not to be cut short, however fast others are added
                    self._has_more = False
                    await self._read_on(0.0)
                else:
                    with trio.CancelScope() as self._reading:
                        await self._read_on(READ_SECONDS)
            except BrokerDown:
                await self._wait_up(PAUSE)
            except BrokerError as error:
                logger.error("the broker does not let this node read: %s", error)
                await self._wait_up(PAUSE * 10)

    async def _read_on(self, seconds: float) -> None:
        read = {ref: followed for ref, followed in self.followed.items() if not followed.has_ended}
        places = {ref: followed.cursor for ref, followed in read.items()}
        news = await self._broker.read(places, self._mail, wait=seconds)
        self._failing_since = None
        self._mail = news.mail
        for letter in news.letters:
            self._on_letter(letter)
        for ref, (cursor, parts) in news.logs.items():
            followed = read[ref]
            if self.followed.get(ref) is followed:  # and not forgotten, or begun anew, meanwhile
                followed.cursor = cursor
                followed.add(parts)

    async def _wait_up(self, pause: float) -> None:
        if self._failing_since is None:
            self._failing_since = trio.current_time()
        until = self._failing_since + self._patience
        await trio.sleep(pause)
        with trio.move_on_at(until):
            await self._broker.wait_up()
        if trio.current_time() >= until:
            for followed in self.followed.values():
                followed.lose(BrokerLost(f"the broker was away for {self._patience:g} seconds"))
            await self._broker.wait_up()
