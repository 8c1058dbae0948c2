"""A subscriber: a cursor into the transcript, and the doorbell that tells it of news."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import trio

from trioproxy.fanout.event import Batch
from trioproxy.fanout.outcome import Evicted, EvictionReason, Outcome

if TYPE_CHECKING:
    from trioproxy.fanout.generation import Generation

OnLag = Literal["wait", "skip", "evict"]


class Subscriber:
    """Reads a generation in batches: ``async for batch in subscriber``.

    What it yields is a dense run of events from its cursor, the same objects for every subscriber;
    a stretch that it cannot have is told as ``batch.gap``. After the last batch the iteration stops
    and ``end`` says why: the generation's outcome, or this subscriber's own eviction.

    ``lag`` is what arrived since it joined and it has not yet read, in bytes. ``on_lag`` says what
    happens when that passes ``max_lag`` bytes: ``"wait"`` nothing, it reads on from the transcript;
    ``"skip"`` it jumps to live after a told gap; ``"evict"`` it is sent away. All of it is found
    out when the subscriber comes for its next batch, so that a slow one costs the reader of the
    upstream nothing.
    """

    __slots__ = (
        "_floor",
        "_position",
        "bell",
        "cursor",
        "end",
        "generation",
        "max_lag",
        "on_lag",
    )

    def __init__(self, generation: Generation, *, cursor: int, on_lag: OnLag, max_lag: int) -> None:
        self.generation = generation
        self.cursor = cursor
        self.on_lag: OnLag = on_lag
        self.max_lag = max_lag
        self.end: Outcome | Evicted | None = None
        self.bell = Doorbell()
        # What was there before it joined is history to catch up with, not lag.
        self._floor = generation.transcript.position
        self._position = 0

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
            self.bell.ring()

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> Batch:
        """Wait for news and return all of it, at most 64 KiB at a time.

        Always a checkpoint. If cancelled, nothing was taken: the next call returns what this one
        would have.
        """
        while True:
            if self._is_current():
                self.generation.waiting.add(self)
                await self.bell.wait()
            else:
                await trio.lowlevel.checkpoint()
            batch = self._take()
            if batch is not None:
                return batch
            if self.end is not None:
                raise StopAsyncIteration

    def _is_current(self) -> bool:
        generation = self.generation
        return (
            self.cursor == generation.transcript.last
            and generation.outcome is None
            and self.end is None
        )

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
        if batch.events:
            self.cursor = batch.events[-1].seq
            self._position = batch.events[-1].position
        elif batch.gap is not None:
            self.cursor = batch.gap.last
            self._position = transcript.position
        return batch


class Doorbell:
    """The memory channel of one subscriber. It holds one "there is news" at most, and never the
    news itself.

    Ringing is synchronous and cannot fail; a doorbell that rang already stays rung. A ring that
    comes too early or too late only makes its subscriber look once in vain.
    """

    __slots__ = ("_rings", "_waits")

    def __init__(self) -> None:
        self._rings, self._waits = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        try:
            self._rings.send_nowait(None)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it rang already, or its subscriber has left

    async def wait(self) -> None:
        """Wait for a ring. If cancelled, a ring is not lost."""
        await self._waits.receive()

    def close(self) -> None:
        self._waits.close()  # first: whoever waits is told that it was closed here, not elsewhere
        self._rings.close()
