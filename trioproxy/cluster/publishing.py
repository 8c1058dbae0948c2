"""What a node tells others of its generations: one task that writes to all logs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import trio

from trioproxy.cluster.broker import Addition, Broker, Lease
from trioproxy.cluster.entries import Batch as LogBatch
from trioproxy.cluster.errors import BrokerDown, BrokerError, EntryTooLarge, LogBehind
from trioproxy.cluster.watching import NodeWatch
from trioproxy.fanout import Batch, CallingBell, Generation, Hub, Subscriber
from trioproxy.wire import Message

logger = logging.getLogger(__name__)

PACE = 0.008
"""Seconds between two rounds, at least: what comes meanwhile is written together."""

SLACK = 0.003
"""Seconds that a round which could begin waits for something else to wake this process: on a busy
node there is always something, and to be woken costs more than to write."""

SPARE_PACE = 0.2
"""Seconds that what nobody waits for is gathered before it is written."""

PAUSE = 0.1
"""Seconds before what the broker did not take is offered to it again."""

ADDITIONS_AT_ONCE = 100
BYTES_AT_ONCE = 1024 * 1024
"""What one write holds at most, if it is of more than one batch: the broker does nothing else
meanwhile."""


class Publication:
    """A generation as it is written to its log. ``written`` is the last event that is there;
    ``is_wanted`` says that somebody is interested, as was heard last.

    While it is ``subscriber`` to its generation, it keeps it from ending; None while nobody asks.
    """

    def __init__(
        self, lease: Lease, generation: Generation, alias: Callable[[Generation], str | None]
    ) -> None:
        self.lease = lease
        self.generation = generation
        self._alias = alias
        self.written = 0
        self.is_wanted = False
        self.subscriber: Subscriber | None = None
        self._taken: Batch | None = None
        self._stack = ExitStack()

    def join(self, hub: Hub, on_news: Callable[[], None]) -> None:
        """Begin to read. Raises :class:`~trioproxy.fanout.FanoutError`."""
        joining = hub.subscribe(self.generation.id, after=self.written, counts=False)
        self.subscriber = self._stack.enter_context(joining)
        self.subscriber.ring_at(CallingBell(on_news))

    def leave(self) -> None:
        """Read no more."""
        self.subscriber = None  # first: whoever is told that it has left sees it so
        self._stack.close()

    def go_back(self, last: int) -> None:
        """The log ends with an event that was written before: go on behind that one."""
        self.written = min(self.written, last)
        if self.subscriber is not None:
            self.subscriber.cursor = min(self.subscriber.cursor, self.written)

    def take(self) -> Addition | None:
        """What is to be written next; None where nothing is."""
        subscriber = self.subscriber
        assert subscriber is not None
        while (batch := subscriber.peek()) is not None:
            if batch.events:
                self._taken = batch
                messages = [Message(name, data) for _, name, data, _ in batch.events]
                of_log = LogBatch(batch.events[0].seq, messages)
                return Addition(self.lease, of_log, self.written, self._alias(self.generation))
            subscriber.advance(batch)
        return None

    def pass_over(self) -> None:
        """What was taken is not to be taken again."""
        if self.subscriber is not None and self._taken is not None:
            self.subscriber.advance(self._taken)

    def note_written(self, addition: Addition) -> None:
        """What was taken is in the log; unless that was lost and restored meanwhile."""
        if self.written == addition.after:
            self.written = addition.batch.last
            self.pass_over()


class Publisher:
    """The one that writes, of a node.

    ``on_refused`` is told what the broker says of a generation that it will not take; nothing more
    is written for it until it is offered again. ``on_written`` is told when a generation has ended
    and all of it is there.
    """

    def __init__(
        self,
        broker: Broker,
        watch: NodeWatch,
        on_refused: Callable[[Publication, BrokerError], None],
        on_written: Callable[[Publication], None],
    ) -> None:
        self._broker = broker
        self._watch = watch
        self._on_refused = on_refused
        self._on_written = on_written
        self._ripe: dict[Publication, float] = {}  # and since when
        self._spare: dict[Publication, float] = {}  # those that nobody waits for
        self._due = -math.inf
        self._called = trio.Event()
        self._waiting = trio.CancelScope()

    def offer(self, publication: Publication) -> None:
        """Have what is new of it written in the next round; if nobody waits for it, in one of those
        that come every :data:`SPARE_PACE`. Synchronous."""
        now = trio.current_time()
        self._offer(publication, now)
        if now >= self._due and publication.is_wanted:
            self._called.set()

    def _offer(self, publication: Publication, since: float) -> None:
        if publication.is_wanted:
            is_first = not self._ripe
            self._ripe[publication] = self._spare.pop(publication, since)
        else:
            is_first = not self._spare
            self._spare.setdefault(publication, since)
        if is_first:
            self._waiting.deadline = min(self._waiting.deadline, self._next_round())

    async def run(self) -> None:
        """Write until cancelled. The body of a task: it holds nothing, and what is cut off is
        written again by whoever offers it."""
        while True:
            await self._wait_due()
            now = trio.current_time()
            ripe, self._ripe = self._ripe, {}
            if now >= self._spare_due():
                ripe, self._spare = ripe | self._spare, {}
            self._due = now + PACE
            try:
                await self._write_all(list(ripe.items()))
            except BrokerDown:
                await trio.sleep(PAUSE)
                await self._broker.wait_up()
            except BrokerError as error:
                logger.error("the broker does not let this node write: %s", error)
                await trio.sleep(PAUSE * 10)

    async def _wait_due(self) -> None:
        """Wait until there is something to be written, and its round may begin."""
        self._called = trio.Event()
        with trio.CancelScope(deadline=self._next_round()) as self._waiting:
            await self._called.wait()

    def _next_round(self) -> float:
        """When a round begins that nothing else brings about."""
        return min(self._due + SLACK if self._ripe else math.inf, self._spare_due())

    def _spare_due(self) -> float:
        return next(iter(self._spare.values())) + SPARE_PACE if self._spare else math.inf

    async def _write_all(self, ripe: Sequence[tuple[Publication, float]]) -> None:
        """One batch of each, and since when there was one. Raises :class:`BrokerError`, with what
        is not written offered anew."""
        begun = 0
        try:
            while begun < len(ripe):
                taken, additions, end = self._collect(ripe, begun)
                results = await self._broker.publish(additions) if additions else ()
                since = min(since for _, since in ripe[begun:end])
                begun = end
                self._tell(additions, results, trio.current_time() - since)
                for publication, addition, wrong in zip(taken, additions, results, strict=True):
                    if wrong is None:
                        publication.note_written(addition)
                    elif not self._amend(publication, wrong):
                        continue
                    if publication.subscriber is not None and not publication.subscriber.rest():
                        self.offer(publication)
        finally:
            for publication, since in ripe[begun:]:
                self._offer(publication, since)

    def _collect(
        self, ripe: Sequence[tuple[Publication, float]], begin: int
    ) -> tuple[list[Publication], list[Addition], int]:
        taken: list[Publication] = []
        additions: list[Addition] = []
        size, end = 0, begin
        for publication, _ in ripe[begin:]:
            if len(additions) == ADDITIONS_AT_ONCE or size > BYTES_AT_ONCE:
                break
            end += 1
            addition = self._take(publication)
            if addition is not None:
                taken.append(publication)
                additions.append(addition)
                size += sum([len(message.data) for message in addition.batch.messages])
        return taken, additions, end

    def _take(self, publication: Publication) -> Addition | None:
        if publication.subscriber is None:
            return None
        addition = publication.take()
        if addition is None and publication.subscriber.end is not None:
            self._on_written(publication)
        return addition

    def _tell(
        self, additions: Sequence[Addition], results: Sequence[BrokerError | None], seconds: float
    ) -> None:
        answered = zip(additions, results, strict=True)
        written = [addition.batch for addition, wrong in answered if wrong is None]
        if written:
            self._watch.published(written, seconds)

    def _amend(self, publication: Publication, wrong: BrokerError) -> bool:
        """What was taken is not written. Returns whether there may be something else to write."""
        match wrong:
            case EntryTooLarge():  # those who read it elsewhere are told of a gap
                of = publication.generation.id
                logger.error("a part of %s is not published: %s", of, wrong)
                publication.pass_over()
            case LogBehind(last=last):
                publication.go_back(last)
            case _:
                if publication.subscriber is not None:
                    self._on_refused(publication, wrong)
                return False
        return True
