"""The generations that a node owns: who hears of them, and when they end.

The owner's own readers need nothing of this. For those of other nodes a *publication* reads the
transcript as any subscriber does and writes it to the log. It is there only while somebody is
interested, and like any subscriber it keeps the generation from ending.

When nobody but the publication is left, the node asks the broker whether the generation can be
closed, which it can if nobody is interested; in the same step nobody can be any more. For that
moment the generation lingers (its *notice*).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import trio

from trioproxy.cluster.broker import Broker, Lease, Letter
from trioproxy.cluster.codec import Codec
from trioproxy.cluster.entries import batches
from trioproxy.cluster.errors import (
    BrokerDown,
    BrokerError,
    EntryTooLarge,
    Fenced,
    LogBehind,
    NotRunning,
)
from trioproxy.cluster.keys import Ref
from trioproxy.fanout import FanoutError, Generation, Hub, Subscriber
from trioproxy.fanout.outcome import failed
from trioproxy.wire import Message

T = TypeVar("T")

logger = logging.getLogger(__name__)

NOTICE = 0.4
"""Seconds that the broker has to say whether a generation can be closed. If it does not say so, the
generation is closed: what is certain is that nobody reads it here."""

PACE = 0.008
"""Seconds between two writes to one log."""

PAUSE = 0.1
"""Seconds before what the broker did not take is told to it again."""


class Owned:
    """A generation of this node, and what others know of it.

    ``publication`` is the subscriber that reads it for them, None while nobody asks; ``is_wanted``
    says that somebody did, and has not left. ``parting`` is what waits for its deadline, at which
    the generation ends if nobody reads it; ``is_closing`` says that the broker is being asked
    whether it can.
    """

    def __init__(self, lease: Lease, about: bytes, generation: Generation) -> None:
        self.lease = lease
        self.about = about
        self.generation = generation
        self.published = 0
        self.publication: Subscriber | None = None
        self.scope: trio.CancelScope | None = None  # of the publication
        self.is_wanted = False
        self.parting: trio.CancelScope | None = None
        self.is_closing = False

    @property
    def is_deserted(self) -> bool:
        """Whether it runs and nobody reads it here."""
        generation = self.generation
        return generation.outcome is None and not (generation.subscribers - {self.publication})


class Owner:
    """That of one node. What it starts are tasks of ``nursery``, which outlives the generations."""

    def __init__(
        self, broker: Broker, hub: Hub, codec: Codec, nursery: trio.Nursery, *, always: bool
    ) -> None:
        self.owned: dict[Ref, Owned] = {}
        self._broker = broker
        self._hub = hub
        self._codec = codec
        self._nursery = nursery
        self._always = always

    # -- what happens to a generation: noted in the step in which it happens -----------------------

    def begin(self, lease: Lease, about: bytes, generation: Generation) -> None:
        """It has started, and this node owns it."""
        owned = self.owned[lease.ref] = Owned(lease, about, generation)
        if self._always:
            self._start_publication(owned)
        if not generation.subscribers:
            self._part_after(owned, generation.linger)

    def left(self, generation: Generation) -> None:
        """A subscriber has left it."""
        owned = self._find(generation)
        if owned is not None and owned.is_deserted:
            self._part_after(owned, generation.linger)

    def ended(self, generation: Generation) -> None:
        """It has its outcome."""
        owned = self._find(generation)
        if owned is None:
            return
        if owned.parting is not None:
            owned.parting.cancel(reason="it has ended")
        if owned.scope is None:
            self._nursery.start_soon(self._put_by, owned, name=f"putting by of {generation.id}")

    def give_back(self, lease: Lease) -> None:
        """Nothing was started under this lease."""
        self._nursery.start_soon(self._retire, lease, name=f"giving back of {lease.ref.public_id}")

    # -- what others tell --------------------------------------------------------------------------

    def obey(self, letter: Letter) -> None:
        """Do what a letter says, if it is about a generation of this node."""
        match letter.word:
            case "wake":
                self._wake(letter.ref)
            case "leave":
                owned = self.owned.get(letter.ref)
                if owned is not None:
                    self._let_go(owned)
            case "cancel":
                owned = self.owned.get(letter.ref)
                if owned is not None:
                    owned.generation.cancel("stopped")

    def _wake(self, ref: Ref) -> None:
        owned = self.owned.get(ref)
        if owned is None:
            try:
                generation = self._hub.get(ref.public_id)
            except FanoutError:
                self._nursery.start_soon(self._say_expired, Lease(ref, 1))
                return
            if generation.is_replica:
                return
            owned = self.owned[ref] = Owned(Lease(ref, 1), b"", generation)
        self._start_publication(owned)

    @property
    def held(self) -> list[Owned]:
        """Those whose leases are to be renewed."""
        return list(self.owned.values())

    # -- holding it --------------------------------------------------------------------------------

    async def renew(self, owned: Owned) -> None:
        """Hold the lease for another while; restore what the broker has lost; see who is
        interested. Raises :class:`BrokerDown`."""
        if owned.is_closing or (owned.generation.outcome is not None and owned.scope is None):
            return  # a renewal would open it again
        try:
            interested = await self._broker.renew(owned.lease)
        except Fenced:
            self._lose(owned)
            return
        except NotRunning as error:
            if error.state != "unknown":
                return
            await self._restore(owned)
            return
        if interested and owned.lease.ref in self.owned:
            self._start_publication(owned)
        elif not interested and owned.is_wanted:
            self._let_go(owned)

    async def _restore(self, owned: Owned) -> None:
        generation = owned.generation
        head = None
        if generation.head is not None:
            head = self._codec.pack_head(generation.head)
        try:
            restored = await self._broker.restore(owned.lease, owned.about, head, None)
        except (Fenced, NotRunning):
            self._lose(owned)
            return
        self._go_back(owned, min(owned.published, restored.last))

    def _lose(self, owned: Owned) -> None:
        """Another took this node for dead: nothing more is told of it."""
        logger.warning("%s is another's to tell of by now", owned.generation.id)
        self._forget(owned)
        if owned.scope is not None:
            owned.scope.cancel(reason="its owner is fenced")

    # -- publishing it -----------------------------------------------------------------------------

    def _let_go(self, owned: Owned) -> None:
        """Nobody is interested any more."""
        owned.is_wanted = False
        if owned.is_deserted:
            if owned.parting is None:
                self._part_after(owned, 0.0)
        elif owned.scope is not None and not self._always:
            owned.scope.cancel(reason="nobody is interested")

    def _start_publication(self, owned: Owned) -> None:
        owned.is_wanted = True
        if owned.scope is None:
            owned.scope = trio.CancelScope()
            self._nursery.start_soon(
                self._publish, owned, name=f"publication of {owned.generation.id}"
            )

    async def _publish(self, owned: Owned) -> None:
        assert owned.scope is not None
        generation = owned.generation
        is_told, is_held = False, True
        try:
            with (
                owned.scope,
                self._hub.subscribe(generation.id, after=owned.published) as subscriber,
            ):
                owned.publication = subscriber
                await generation.wait_opened()
                if generation.head is not None:
                    head = self._codec.pack_head(generation.head)
                    await self._insist(owned, lambda: self._broker.open(owned.lease, head))
                async for batch in subscriber:
                    if batch.events:
                        messages = [Message(event.name, event.data) for event in batch.events]
                        await self._write(owned, batch.events[0].seq, messages)
                    await trio.sleep(PACE)
                await self._tell_end(owned)
                is_told = True
        except FanoutError as error:
            is_held = False
            logger.info("%s is held no more: %s", generation.id, error)
        finally:
            owned.publication = owned.scope = None
        if is_told:
            self._forget(owned)
        elif owned.lease.ref in self.owned:
            if owned.is_wanted and is_held:
                self._start_publication(owned)  # somebody came while it was given up
            elif generation.outcome is not None:
                self.ended(generation)

    async def _write(self, owned: Owned, first: int, messages: list[Message]) -> None:
        """Write events to the log; what of it is not there any more is read again."""
        for batch in batches(first, messages):
            before = owned.published
            publish = partial(self._broker.publish, owned.lease, batch, after=before)
            try:
                await self._insist(owned, publish)
            except LogBehind as behind:
                self._go_back(owned, behind.last)
                return
            except EntryTooLarge as error:  # those who read it elsewhere are told of a gap
                logger.error("a part of %s is not published: %s", owned.generation.id, error)
            else:
                if owned.published != before:  # it was restored meanwhile
                    return
                owned.published = batch.last

    def _go_back(self, owned: Owned, last: int) -> None:
        owned.published = last
        if owned.publication is not None:
            owned.publication.cursor = min(owned.publication.cursor, last)

    async def _tell_end(self, owned: Owned) -> None:
        """Free the request; and end the log where somebody reads it, or may when this node is
        gone."""
        generation = owned.generation
        outcome = generation.outcome
        assert outcome is not None
        if not self._always and await self._insist(owned, lambda: self._broker.retire(owned.lease)):
            return
        last, detail = generation.transcript.last, b""
        if outcome.error is not None:
            detail = self._codec.pack_error(outcome.error)
        await self._insist(
            owned,
            lambda: self._broker.finish(owned.lease, outcome, last=last, detail=detail),
        )

    async def _insist(self, owned: Owned, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the broker has done it. Where this node is the owner no more, the publication
        is cancelled."""
        while True:
            try:
                return await ask()
            except BrokerDown:
                await trio.sleep(PAUSE)
                await self._broker.wait_up()
            except NotRunning as error:
                if error.state == "unknown":
                    with suppress(BrokerDown):
                        await self._restore(owned)
                elif error.state == "closing":
                    await trio.sleep(PAUSE)  # until it is closed, or open again
                else:
                    self._lose(owned)
                    await trio.sleep_forever()  # which that has cancelled
            except Fenced:
                self._lose(owned)
                await trio.sleep_forever()

    # -- parting -----------------------------------------------------------------------------------

    def _part_after(self, owned: Owned, seconds: float) -> None:
        at = trio.current_time() + seconds
        if owned.parting is not None:
            owned.parting.deadline = at
            return
        owned.parting = trio.CancelScope(deadline=at)
        name = f"parting of {owned.generation.id}"
        self._nursery.start_soon(self._part, owned, owned.parting, name=name)

    async def _part(self, owned: Owned, patience: trio.CancelScope) -> None:
        """End it when it is time, if nobody reads it then, here or elsewhere."""
        try:
            with patience:
                await trio.sleep_forever()
            if owned.is_deserted and owned.lease.ref in self.owned:
                owned.is_closing = True
                if await self._can_be_closed(owned):
                    await self._close(owned)
                else:
                    self._start_publication(owned)
        finally:
            owned.parting, owned.is_closing = None, False

    async def _can_be_closed(self, owned: Owned) -> bool:
        with trio.move_on_after(NOTICE):
            try:
                return await self._broker.close_if_empty(owned.lease)
            except BrokerError as error:
                logger.info("%s is closed unasked: %s", owned.generation.id, error)
        return True

    async def _close(self, owned: Owned) -> None:
        if owned.is_deserted:
            owned.generation.cancel("abandoned")
        else:  # somebody came while the broker was asked
            with suppress(BrokerError):  # or else the next renewal opens it
                await self._broker.renew(owned.lease)

    # -- putting by --------------------------------------------------------------------------------

    async def _put_by(self, owned: Owned) -> None:
        """It has ended, and was not published to its end: its request is free, and whoever asks for
        it wakes this node."""
        is_retired = False
        with trio.move_on_after(self._broker.terms.retention):
            is_retired = await self._retire(owned.lease)
        if is_retired or owned.lease.ref not in self.owned:
            self._forget(owned)
        else:
            self._start_publication(owned)

    async def _retire(self, lease: Lease) -> bool:
        """Whether nobody waits to be told its end."""
        while True:
            try:
                return await self._broker.retire(lease)
            except BrokerDown:
                await trio.sleep(PAUSE)
                await self._broker.wait_up()
            except (Fenced, NotRunning):
                return True

    async def _say_expired(self, lease: Lease) -> None:
        with suppress(BrokerError):  # who waits for it gives up by itself
            await self._broker.finish(lease, failed("expired"), last=0)

    def _find(self, generation: Generation) -> Owned | None:
        ref = Ref.parse(generation.id)
        owned = self.owned.get(ref) if ref is not None else None
        return owned if owned is not None and owned.generation is generation else None

    def _forget(self, owned: Owned) -> None:
        if self.owned.get(owned.lease.ref) is owned:
            del self.owned[owned.lease.ref]
