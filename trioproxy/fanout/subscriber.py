"""A subscriber: a cursor into the transcript, and the doorbell that tells it of news."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import trio

from trioproxy.fanout.doorbell import Doorbell
from trioproxy.fanout.event import Batch
from trioproxy.fanout.outcome import Evicted, EvictionReason, Outcome

if TYPE_CHECKING:
    from trioproxy.fanout.generation import Generation
    from trioproxy.fanout.pump import Sink

OnLag = Literal["wait", "skip", "evict"]


class Subscriber:
    """Reads a generation in batches: ``async for batch in subscriber``.

    What it yields is a dense run of events from its cursor, the same bytes for every subscriber;
    a stretch that it cannot have is told as ``batch.gap``. After the last batch the iteration stops
    and ``end`` says why: the generation's outcome, or this subscriber's own eviction.

    ``lag`` is what arrived since it joined and it has not yet read, in bytes. ``on_lag`` says what
    happens when that passes ``max_lag`` bytes: ``"wait"`` nothing, it reads on from the transcript;
    ``"skip"`` it jumps to live after a told gap; ``"evict"`` it is sent away. All of it is found
    out when the subscriber comes for its next batch, so that a slow one costs the reader of the
    upstream nothing.

    One that does not ``count`` reads for others, and is no reader itself; it holds the generation
    as any other does.
    """

    __slots__ = (
        "_floor",
        "_is_busy",
        "_is_nudged",
        "_position",
        "bell",
        "counts",
        "cursor",
        "end",
        "generation",
        "max_lag",
        "on_lag",
    )

    def __init__(
        self,
        generation: Generation,
        *,
        cursor: int,
        on_lag: OnLag,
        max_lag: int,
        counts: bool = True,
    ) -> None:
        self.generation = generation
        self.counts = counts
        self.cursor = cursor
        self.on_lag: OnLag = on_lag
        self.max_lag = max_lag
        self.end: Outcome | Evicted | None = None
        self.bell = Doorbell()
        # What was there before it joined is history to catch up with, not lag.
        self._floor = generation.transcript.position
        self._position = 0
        self._is_busy = False  # with what it was handed
        self._is_nudged = False

    @property
    def lag(self) -> int:
        """Payload bytes that arrived since this subscriber joined and that it has not been
        handed."""
        return self.generation.transcript.position - max(self._position, self._floor)

    def evict(self, reason: EvictionReason) -> None:
        """Send this subscriber away: its iteration stops at once with ``end == Evicted(reason)``.

        The generation goes on. Does nothing to a subscriber that has its end already, or was handed
        the last event of what has ended: that outcome is its end, and it must not see two.
        """
        generation = self.generation
        is_through = generation.outcome is not None and self.cursor == generation.transcript.last
        if self.end is None and not is_through:
            self.end = Evicted(reason)
            generation.pump.give_back(self)  # what comes after its end must not be written
            self.bell.ring()

    def ring_at(self, bell: Doorbell) -> None:
        """Have news told by this bell from now on, to who does not wait for them here."""
        self.bell.close()
        self.bell = bell

    def nudge(self) -> None:
        """Have it return from its waiting, with an empty batch if there is no news. Nothing to one
        that does not wait."""
        self._is_nudged = True
        self.bell.ring()

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> Batch:
        """Wait for news and return all of it, at most 64 KiB at a time; nothing, where it was
        nudged first.

        Always a checkpoint. If cancelled, nothing was taken: the next call returns what this one
        would have.
        """
        self._done()
        self._is_nudged = False
        while True:
            if self.is_current:
                self.generation.waiting.add(self)
                await self.bell.wait()
            else:
                await trio.lowlevel.checkpoint()
            batch = self._take()
            if batch is not None:
                self._is_busy = True
                return batch
            if self.end is not None:
                raise StopAsyncIteration
            if self._is_nudged:
                self.generation.watch.beat(1)
                return Batch([], None, self.generation.transcript)

    def peek(self) -> Batch | None:
        """What is new, at most 64 KiB of it, and again until it is told to :meth:`advance`. None
        where nothing is, or its ``end`` stands; then its bell rings with the next news."""
        if self.end is not None:
            return None
        batch = self.generation.transcript.read(self.cursor)
        if batch is None and not self.rest():
            self.end = self.generation.outcome
        return batch

    def rest(self) -> bool:
        """Have its bell ring with the next news; False where there is something to be told now."""
        if not self.is_current:
            return False
        self.generation.waiting.add(self)
        return True

    @property
    def is_current(self) -> bool:
        """Whether it has read everything so far, and there is more to come."""
        generation = self.generation
        return (
            self.cursor == generation.transcript.last
            and generation.outcome is None
            and self.end is None
        )

    async def lend(self, sink: Sink) -> None:
        """Have the generation write to ``sink`` what comes from now on, in place of this
        subscriber; return when there is something that it must do itself.

        The cursor moves as if it had read what was written. Returns at once where it is not
        current, or the generation has not begun. Always a checkpoint. If cancelled, nothing was
        written that the cursor does not tell.
        """
        self._done()
        pump = self.generation.pump
        if not (self.is_current and self.generation.has_begun):
            await trio.lowlevel.checkpoint()
            return
        pump.take(self, sink)
        try:
            await self.bell.wait()
        finally:
            pump.give_back(self)

    def _done(self) -> None:
        if self._is_busy:
            self._is_busy = False
            self.generation.watch.delivered(self)

    def advance(self, batch: Batch) -> None:
        """Take note that the batch, which begins at the cursor, has been delivered."""
        if batch.events:
            self.cursor, _, _, self._position = batch.events[-1]
        elif batch.gap is not None:
            self.cursor = batch.gap.last
            self._position = self.generation.transcript.position

    def _take(self) -> Batch | None:
        if self.end is not None:
            return None
        generation, transcript = self.generation, self.generation.transcript
        # Behind what has ended nobody falls any further, and its last event must not be skipped.
        if self.on_lag != "wait" and self.lag > self.max_lag and generation.outcome is None:
            if self.on_lag == "evict":
                self.evict("slow")
                return None
            batch = transcript.skip(self.cursor)
        else:
            batch = transcript.read(self.cursor)
        if batch is None:
            self.end = generation.outcome
            return None
        self.advance(batch)
        return batch
