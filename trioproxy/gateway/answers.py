"""Answers that are kept, for who asks the same again.

What is kept is what a source said: its head and its events, up to the one that completed it. It is
read as a source itself, so a generation over it is one like any other: it can be shared, cut,
resumed and watched, and costs a reader what any does.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from trioproxy.fanout import Arrival, Feed, Gap, Source
from trioproxy.wire import Message, Tally

EVENT_BYTES = 150
"""What an event takes beside its name and its data."""

ANSWER_BYTES = 4096
"""What an answer takes beside its events: its head, and what it is found by."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptAnswer:
    """An answer that was complete, in the events in which it came. ``held_bytes`` is what it
    takes."""

    head: object
    arrivals: Sequence[Arrival]
    held_bytes: int


class Answers:
    """The answers of the last ``ttl`` seconds, up to ``max_bytes`` together: the one that was asked
    for least recently goes first. ``hits`` counts those that were read again."""

    def __init__(self, ttl: float, max_bytes: int) -> None:
        self.held_bytes = 0
        self.hits = 0
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, tuple[KeptAnswer, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def configure(self, ttl: float, max_bytes: int) -> None:
        """Keep so much from now on. What is kept already stays for as long as was said then, unless
        nothing is to be kept."""
        self._ttl, self._max_bytes = ttl, max_bytes
        while self._kept and ttl <= 0:
            self._forget(next(iter(self._kept)))
        self._make_room()

    def find(self, key: Hashable) -> KeptAnswer | None:
        """The answer that is kept under ``key``, if one is."""
        kept, expires_at = self._kept.get(key, (None, math.inf))
        if kept is None:
            return None
        if expires_at <= trio.current_time():
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return kept

    @asynccontextmanager
    async def replay(
        self, answer: KeptAnswer, tally: Tally, events_per_second: float
    ) -> AsyncGenerator[Feed]:
        """A source: the same once more, at this pace (inf: at once), each event counted by
        ``tally``."""
        self.hits += 1
        yield _Replay(answer, tally, 1 / events_per_second)

    def keeping(self, key: Hashable, source: Source) -> Source:
        """The source itself, whose answer is kept under ``key`` if it becomes complete; unless
        nothing is to be kept."""
        return _keeping(self, key, source) if self._ttl > 0 else source

    def keep(self, key: Hashable, answer: KeptAnswer) -> None:
        """Keep it, in place of what was kept under ``key``; unless nothing is to be kept."""
        if self._ttl <= 0:
            return
        if key in self._kept:
            self._forget(key)
        self._kept[key] = (answer, trio.current_time() + self._ttl)
        self.held_bytes += answer.held_bytes
        self._make_room()

    def may_hold(self, size: int) -> bool:
        """Whether an answer of so many bytes could be kept."""
        return size <= self._max_bytes

    def _make_room(self) -> None:
        while self.held_bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Hashable) -> None:
        answer, _ = self._kept.pop(key)
        self.held_bytes -= answer.held_bytes


@asynccontextmanager
async def _keeping(answers: Answers, key: Hashable, source: Source) -> AsyncGenerator[Feed]:
    async with source as feed:
        yield _Recording(feed, answers, key)


class _Recording:
    """A feed, of which what was read is remembered until it is complete, or too much."""

    def __init__(self, feed: Feed, answers: Answers, key: Hashable) -> None:
        self.head = feed.head
        self._feed = aiter(feed)
        self._answers = answers
        self._key = key
        self._read: list[Arrival] | None = []
        self._held_bytes = ANSWER_BYTES

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival] | Gap]:
        return self

    async def __anext__(self) -> Sequence[Arrival] | Gap:
        arrivals = await anext(self._feed)
        if isinstance(arrivals, Gap):
            self._read = None
        elif self._read is not None:
            self._remember(self._read, arrivals)
        return arrivals

    def _remember(self, read: list[Arrival], arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            read.append(arrival)
            self._held_bytes += len(arrival.data) + len(arrival.name or b"") + EVENT_BYTES
            if not self._answers.may_hold(self._held_bytes):
                self._read = None
                return
            if arrival.decides is not None:
                self._read = None
                if arrival.decides.kind == "completed":
                    answer = KeptAnswer(self.head, tuple(read), self._held_bytes)
                    self._answers.keep(self._key, answer)
                return


class _Replay:
    """A feed of what was kept: all at once, or an event at a time."""

    def __init__(self, answer: KeptAnswer, tally: Tally, pause: float) -> None:
        self.head = answer.head
        self._left = answer.arrivals
        self._tally = tally
        self._pause = pause
        self._begins = trio.current_time()
        self._told = 0

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival]]:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        """What is due, once something is."""
        if self._told == len(self._left):
            raise StopAsyncIteration
        await trio.sleep_until(self._begins + self._told * self._pause)
        due = len(self._left)
        if self._pause:
            due = min(due, 1 + int((trio.current_time() - self._begins) / self._pause))
        arrivals = self._left[self._told : max(due, self._told + 1)]
        self._told += len(arrivals)
        for arrival in arrivals:
            self._tally.count(Message(arrival.name, arrival.data))
        return arrivals
