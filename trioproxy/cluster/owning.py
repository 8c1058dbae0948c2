"""The generations that a node owns: who hears of them, and when they end.

The owner's own readers need nothing of this. For those of other nodes a *publication* subscribes to
the generation and is written to its log (:mod:`trioproxy.cluster.publishing`). It is there only
while somebody is interested, and like any subscriber it keeps the generation from ending. When
nobody but the publication is left, the generation parts (:mod:`trioproxy.cluster.parting`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

import trio

from trioproxy.cluster.broker import OWNER_LOST, Broker, Lease, Letter
from trioproxy.cluster.codec import Codec
from trioproxy.cluster.errands import Errands
from trioproxy.cluster.errors import BrokerError, Fenced, NotRunning
from trioproxy.cluster.keys import Ref
from trioproxy.cluster.parting import Parting
from trioproxy.cluster.publishing import Publication, Publisher
from trioproxy.cluster.unbegun import Unbegun
from trioproxy.cluster.watching import NodeWatch
from trioproxy.fanout import ABANDONED, ExpiredGeneration, FanoutError, Generation, Hub
from trioproxy.fanout.outcome import failed

logger = logging.getLogger(__name__)


class Owned:
    """A generation of this node, and what others know of it.

    ``is_open`` says that its head has been told, if it has one; ``is_ending`` that its end is being
    told; ``is_put_by`` that it had ended when somebody asked.
    """

    parting: Parting

    def __init__(self, about: bytes, publication: Publication) -> None:
        self.lease = publication.lease
        self.about = about
        self.generation = publication.generation
        self.publication = publication
        self.is_open = False
        self.is_ending = False
        self.is_put_by = False

    @property
    def is_deserted(self) -> bool:
        """Whether it runs and nobody reads it here."""
        generation, publication = self.generation, self.publication.subscriber
        return generation.outcome is None and not (generation.subscribers - {publication})


class Owner:
    """That of one node, in one lane. ``unbegun`` is what it does not own yet."""

    def __init__(
        self,
        broker: Broker,
        hub: Hub,
        codec: Codec,
        nursery: trio.Nursery,
        watch: NodeWatch,
        *,
        always: bool,
    ) -> None:
        self.owned: dict[Ref, Owned] = {}
        self.publisher = Publisher(broker, watch, self._refused, self._written)
        self._broker = broker
        self._hub = hub
        self._codec = codec
        self.errands = Errands(nursery, broker)
        self.unbegun = Unbegun(self.errands, codec)
        self._watch = watch
        self._always = always
        self._changed = trio.lowlevel.ParkingLot()
        self._about: WeakKeyDictionary[Generation, bytes] = WeakKeyDictionary()

    # -- what happens to a generation: noted in the step in which it happens -----------------------

    def begin(self, lease: Lease, about: bytes, generation: Generation) -> None:
        """It has started, and this node owns it."""
        self._about[generation] = about
        owned = self._add(lease, about, generation)
        if self.unbegun.take(lease.ref):
            self._want(owned)
        elif self._always:
            self._publish(owned)
        if owned.is_deserted:
            owned.parting.be_in(generation.linger)

    def _add(self, lease: Lease, about: bytes, generation: Generation) -> Owned:
        publication = Publication(lease, generation, self._codec.alias)
        owned = self.owned[lease.ref] = Owned(about, publication)
        owned.parting = Parting(
            lease,
            self.errands,
            is_deserted=lambda: self.owned.get(lease.ref) is owned and owned.is_deserted,
            is_wanted=lambda: owned.publication.is_wanted,
            close=partial(self._abandon, owned),
            keep=partial(self._want, owned),
            reopen=partial(self._offer, owned),
        )
        return owned

    def left(self, generation: Generation) -> None:
        """A subscriber has left it, or it may outlive its last one for longer."""
        owned = self._find(generation)
        if owned is not None and owned.is_deserted:
            owned.parting.be_in(generation.linger)

    def ended(self, generation: Generation) -> None:
        """It has its outcome."""
        owned = self._find(generation)
        if owned is None:
            return
        owned.parting.drop()
        if owned.publication.subscriber is None:
            self._tell_end(owned)
        else:
            self._offer(owned)

    # -- what others tell --------------------------------------------------------------------------

    def obey(self, letter: Letter) -> None:
        """Do what a letter says, if it is about a generation of this node."""
        owned = self.owned.get(letter.ref)
        match letter.word:
            case "wake":
                self._wake(letter.ref, owned)
            case "leave" if owned is not None:
                self._let_go(owned)
            case "cancel" if owned is not None:
                owned.generation.cancel("stopped")
            case _:
                pass  # it is none of this node's any more

    def _wake(self, ref: Ref, owned: Owned | None) -> None:
        if self.unbegun.wake(ref):
            return
        if owned is None:
            try:
                generation = self._hub.get(ref.public_id)
            except ExpiredGeneration:
                self.unbegun.refuse(Lease(ref, 1), failed("expired"))
                return
            except FanoutError:  # it was elected, and had given up waiting to hear so
                self.unbegun.refuse(Lease(ref, 1), OWNER_LOST)
                return
            if generation.is_replica:
                return
            owned = self._add(Lease(ref, 1), self._about.get(generation, b""), generation)
            owned.is_put_by = True
        self._want(owned)

    def close(self) -> None:
        """Have nothing more to do with any."""
        for owned in list(self.owned.values()):
            self._forget(owned)

    async def wait_told(self) -> None:
        """Wait until nothing is left to be told to others. If cancelled, nothing has changed."""
        await trio.lowlevel.checkpoint()
        while any(owned.publication.subscriber is not None for owned in self.owned.values()):
            await self._changed.park()

    # -- holding it --------------------------------------------------------------------------------

    async def renew(self, some: Sequence[Owned]) -> None:
        """Hold the leases of these for another while; restore what the broker has lost; see who is
        interested. Raises :class:`BrokerError`."""
        held = [owned for owned in some if not (owned.parting.is_asking or owned.is_ending)]
        if not held:  # of the others a renewal would open them again
            return
        replies = await self._broker.renew([owned.lease for owned in held])
        for owned, interested in zip(held, replies, strict=True):
            match interested:
                case Fenced():
                    self._lose(owned)
                case NotRunning(state="unknown"):
                    self._restore_soon(owned)
                case int() if self.owned.get(owned.lease.ref) is owned and not owned.is_ending:
                    self._renewed(owned, interested)
                case _:
                    pass  # it has ended

    def _renewed(self, owned: Owned, interested: int) -> None:
        self._offer(owned)  # what was refused while it was closing
        if interested:
            self._want(owned)
        elif owned.publication.is_wanted:
            self._let_go(owned)

    def _restore_soon(self, owned: Owned) -> None:
        ask = partial(self._restore, owned)
        self.errands.run(self.errands.try_to, ask, name="restoring in the cluster")

    async def _restore(self, owned: Owned) -> None:
        """Raises :class:`BrokerError`."""
        generation = owned.generation
        head = None
        if generation.head is not None:
            head = self._codec.pack_head(generation.head)
        try:
            restored = await self._broker.restore(
                owned.lease, owned.about, head, None, is_wanted=owned.publication.is_wanted
            )
        except (Fenced, NotRunning):
            self._lose(owned)
            return
        self._watch.restored(generation)
        owned.publication.go_back(restored.last)
        self._offer(owned)

    def _lose(self, owned: Owned) -> None:
        """Another took this node for dead: nothing more is told of it."""
        if self._forget(owned):
            self._watch.fenced(owned.generation)
            logger.warning("%s is another's to tell of by now", owned.generation.id)

    # -- publishing it -----------------------------------------------------------------------------

    def _want(self, owned: Owned) -> None:
        """Somebody is interested."""
        if not owned.publication.is_wanted:
            owned.publication.is_wanted = True
            self._offer(owned)  # what nobody had waited for
        self._publish(owned)

    def _publish(self, owned: Owned) -> None:
        publication = owned.publication
        if publication.subscriber is not None or owned.is_ending:
            return
        try:
            publication.join(self._hub, partial(self.publisher.offer, publication))
        except FanoutError as error:
            logger.warning("%s is not published: %s", owned.generation.id, error)
            return
        owned.is_open = False
        self.errands.run(self._begin_publication, owned, name=f"head of {owned.generation.id}")

    async def _begin_publication(self, owned: Owned) -> None:
        """Tell the head, when it is known, and then the events."""
        generation = owned.generation
        await generation.wait_opened()
        if generation.head is not None:
            head = self._codec.pack_head(generation.head)
            await self.errands.try_to(lambda: self._broker.open(owned.lease, head))
        owned.is_open = True
        self._offer(owned)

    def _offer(self, owned: Owned) -> None:
        """Have what is new of it written; behind its head, which a log cannot have later."""
        if owned.is_open and owned.publication.subscriber is not None:
            self.publisher.offer(owned.publication)

    def _let_go(self, owned: Owned) -> None:
        """Nobody is interested any more."""
        owned.publication.is_wanted = False
        if owned.is_deserted:
            if not owned.parting.is_near:
                owned.parting.be_in(0.0)
        elif not self._always and owned.generation.outcome is None:
            self._end_publication(owned)

    def _abandon(self, owned: Owned) -> None:
        self._end_publication(owned)
        owned.generation.cancel("abandoned")

    def _end_publication(self, owned: Owned) -> None:
        owned.publication.leave()
        self._changed.unpark_all()

    def _refused(self, publication: Publication, error: BrokerError) -> None:
        """The broker has no log for it."""
        owned = self.owned.get(publication.lease.ref)
        if owned is None or owned.publication is not publication:
            return
        match error:
            case NotRunning(state="unknown"):
                self._restore_soon(owned)
            case NotRunning(state="closing"):
                pass  # it is closed, or offered again when it is not
            case _:
                self._lose(owned)

    # -- its end -----------------------------------------------------------------------------------

    def _written(self, publication: Publication) -> None:
        """It has ended, and all of it is in the log."""
        owned = self.owned.get(publication.lease.ref)
        if owned is not None and owned.publication is publication and not owned.is_ending:
            self._tell_end(owned)

    def _tell_end(self, owned: Owned) -> None:
        owned.is_ending = True
        self.errands.run(self._end, owned, name=f"end of {owned.generation.id}")

    async def _end(self, owned: Owned) -> None:
        """Free the request; and end the log, where somebody reads it or may when this node is
        gone. Where it had not been written and somebody has come, it is."""
        owned.publication.is_wanted = False
        with trio.move_on_after(self._broker.terms.retention):
            is_put_by = not self._always and await self.errands.try_to(partial(self._put_by, owned))
            if not owned.is_ending:  # it is written anew
                return
            if is_put_by is None:
                self._forget(owned)  # it is lost, or was ended before
                return
            is_written = owned.publication.subscriber is not None
            if not is_put_by and is_written:
                await self.errands.try_to(partial(self._finish, owned))
            elif not is_put_by or owned.publication.is_wanted:  # somebody has come
                owned.is_ending = False
                if is_put_by:
                    owned.is_put_by = True
                    self._end_publication(owned)
                    owned.publication.go_back(0)
                self._want(owned)
                if owned.publication.subscriber is not None:
                    return
        self._forget(owned)

    async def _put_by(self, owned: Owned) -> bool:
        try:
            return await self._broker.retire(owned.lease)
        except NotRunning as error:
            if error.state != "unknown" or owned.publication.subscriber is None:
                raise
            await self._restore(owned)  # the broker has lost what somebody reads
            owned.is_ending = False
            return False

    async def _finish(self, owned: Owned) -> None:
        generation = owned.generation
        outcome = generation.outcome
        assert outcome is not None
        if outcome == ABANDONED and not owned.is_put_by:
            outcome = OWNER_LOST  # it was closed unasked, and somebody was there
        detail = b"" if outcome.error is None else self._codec.pack_error(outcome.error)
        last = generation.transcript.last
        await self._broker.finish(owned.lease, outcome, last=last, detail=detail)

    def _find(self, generation: Generation) -> Owned | None:
        ref = Ref.parse(generation.id)
        owned = self.owned.get(ref) if ref is not None else None
        return owned if owned is not None and owned.generation is generation else None

    def _forget(self, owned: Owned) -> bool:
        """Have nothing more to do with it. Returns whether it had."""
        if self.owned.get(owned.lease.ref) is not owned:
            return False
        del self.owned[owned.lease.ref]
        self._end_publication(owned)
        return True
