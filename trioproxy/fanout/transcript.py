"""The log of a generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from trioproxy.fanout.budget import Budget
from trioproxy.fanout.errors import TranscriptFull
from trioproxy.fanout.event import Batch, Event, Gap, Renderer

MAX_BATCH_BYTES = 64 * 1024
"""A batch holds this many payload bytes at most (or one larger event): one write must not hold
up a slow reader."""

OVERHEAD_BYTES = 256
"""What an event costs beside its payload: the objects that hold it. Measured on CPython 3.11,
rounded up."""

WhenFull = Literal["trim", "fail"]


class Transcript:
    """An append-only, byte-bounded log of events. No method awaits, so each is atomic.

    ``first`` is the seq of the oldest event held (``last + 1`` if none is), ``last`` that of the
    newest (0 before the first), ``position`` the payload bytes ever appended, ``held_bytes`` what
    the events held now cost. A full transcript drops its oldest events (``when_full="trim"``;
    readers that still needed them are told of the gap) or refuses the next one (``"fail"``, for an
    answer that is worth something only if it is whole).
    """

    def __init__(
        self, generation_id: str, *, max_bytes: int, budget: Budget, when_full: WhenFull = "trim"
    ) -> None:
        self.generation_id = generation_id
        self.max_bytes = max_bytes
        self.first = 1
        self.last = 0
        self.position = 0
        self.held_bytes = 0
        self._budget = budget
        self._when_full = when_full
        # Plain tuples of plain values, and a table of plain values for each format: the garbage
        # collector looks at them once and never again, and there are as many as tokens are held.
        self._held: list[tuple[bytes | None, bytes, int]] = []
        self._frames: dict[Renderer, dict[int, bytes]] = {}

    @property
    def events(self) -> Sequence[Event]:
        """The events held, oldest first: those from ``first`` to ``last``."""
        return self._events(0, len(self._held))

    def append(self, name: bytes | None, data: bytes) -> None:
        """Add one event. Raises :class:`TranscriptFull`, with nothing added, where trimming is
        not allowed."""
        cost = OVERHEAD_BYTES + len(data) + (len(name) if name else 0)
        if self._when_full == "fail":
            self._budget.relieve(cost)
            if self.held_bytes + cost > self.max_bytes or not self._budget.holds(cost):
                raise TranscriptFull(self.max_bytes)
        self.last += 1
        self.position += len(data)
        self._held.append((name, data, self.position))
        self._grow(cost)

    def read(self, cursor: int) -> Batch | None:
        """What comes after event ``cursor``: at most 64 KiB of it, a gap where the head was
        trimmed; None if nothing."""
        gap = None
        if cursor + 1 < self.first:
            gap = Gap(cursor + 1, self.first - 1)
            cursor = self.first - 1
        held, start = self._held, cursor + 1 - self.first
        if start == len(held) - 1:  # the usual case of a reader that keeps up
            return Batch([Event(self.last, *held[start])], gap, self)
        if start == len(held):
            return Batch([], gap, self) if gap else None
        _, data, position = held[start]
        bound = position - len(data) + MAX_BATCH_BYTES
        end = start + 1
        while end < len(held) and held[end][2] <= bound:
            end += 1
        return Batch(self._events(start, end), gap, self)

    def skip(self, cursor: int) -> Batch:
        """Nothing but the gap from ``cursor`` to now: for a reader that is to go on live."""
        return Batch([], Gap(cursor + 1, self.last), self)

    def frame(self, event: Event, renderer: Renderer) -> bytes:
        """The event in one wire format, rendered at most once while it is held; the bytes count
        towards the bound."""
        frames = self._frames.get(renderer)
        if frames is None:
            frames = self._frames[renderer] = {}
        frame = frames.get(event.seq)
        if frame is None:
            frame = renderer(self.generation_id, event)
            if event.seq >= self.first:
                frames[event.seq] = frame
                self._grow(len(frame))
        return frame

    def pass_over(self, gap: Gap) -> None:
        """Go on behind a gap, which begins at the next event: what it spans was never had, and
        what came before is dropped, for what is held is dense."""
        self._trim(len(self._held))
        self.last = gap.last
        self.first = gap.last + 1

    def clear(self) -> None:
        """Drop every event. Readers that are not through are told of the gap; seqs are not used
        again."""
        self._trim(len(self._held))

    def _events(self, start: int, end: int) -> list[Event]:
        first = self.first
        return [Event(first + index, *self._held[index]) for index in range(start, end)]

    def _grow(self, cost: int) -> None:
        budget = self._budget
        self.held_bytes += cost
        budget.used += cost
        if self.held_bytes > self.max_bytes or budget.used > budget.max_bytes:
            self._make_room()

    def _make_room(self) -> None:
        budget = self._budget
        budget.relieve()
        if self._when_full == "trim":
            excess = max(self.held_bytes - self.max_bytes, budget.used - budget.max_bytes)
            self._trim(self._count_to_free(excess))

    def _count_to_free(self, excess: int) -> int:
        # The newest event always stays: a reader that keeps up must see it whatever its size.
        freed = count = 0
        while freed < excess and count < len(self._held) - 1:
            freed += self._cost(count)
            count += 1
        return count

    def _cost(self, index: int) -> int:
        """What an event that is held is accounted for, its cached frames included."""
        name, data, _ = self._held[index]
        seq = self.first + index
        rendered = sum(len(frames.get(seq, b"")) for frames in self._frames.values())
        return OVERHEAD_BYTES + len(data) + (len(name) if name else 0) + rendered

    def _trim(self, count: int) -> None:
        freed = sum(map(self._cost, range(count)))
        for frames in self._frames.values():
            for seq in range(self.first, self.first + count):
                frames.pop(seq, None)
        del self._held[:count]
        self.first += count
        self.held_bytes -= freed
        self._budget.used -= freed
