"""When each token of a generation came, and how each of its readers fared.

Times are those of trio's clock, in seconds. On the path of a token there is one observation for
each read of the upstream, and one for each pass that writes to readers; all that is derived from
them is derived when somebody asks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import trio

from trioproxy.fanout import Evicted, Generation, Subscriber, Watch
from trioproxy.telemetry.histogram import Histogram
from trioproxy.wire import Tally

KEPT_READS = 65_536
"""Of so many reads of the upstream, the last, the times are kept: 24 bytes for each."""

KEPT_READERS = 100
"""Of so many readers that have left is told how they fared, the last."""

Joining = Literal["first", "late", "resume"]


class Origin(Protocol):
    """What a generation was started for: ``accepted_at`` is when the request came, in trio's
    time."""

    @property
    def streamed(self) -> bool: ...
    @property
    def tally(self) -> Tally: ...
    @property
    def accepted_at(self) -> float: ...


class Tokens(Protocol):
    """Is told what all generations have in common."""

    def joined(self, timing: Timing, reader: Reader) -> None: ...
    def left(self, timing: Timing, reader: Reader) -> None: ...
    def beat(self, number: int) -> None: ...
    def ended(self, timing: Timing) -> None: ...
    def closed(self, timing: Timing) -> None: ...


@dataclass(slots=True, eq=False)
class Reader:
    """How one subscriber fares. ``first_at`` is when it had been written its first event,
    ``caught_up_at`` when it had all that was there when it joined; ``lag`` is the most that it was
    behind, in bytes; ``deliveries`` the writes of live events to it, and ``delay`` the seconds
    from each event's coming to its end, in all."""

    joining: Joining
    joined_at: float
    joined_after: int
    history: int
    first_at: float | None = None
    caught_up_at: float | None = None
    left_at: float | None = None
    why: str | None = None
    cursor: int = 0
    lag: int = 0
    deliveries: int = 0
    delay: float = 0.0
    longest_delay: float = 0.0
    lent_since: tuple[int, float] | None = field(default=None, repr=False)


class Timing(Watch):
    """The times of one generation. Those that have not come are None.

    ``accepted_at``: the request came; ``opened_at``: the head of the answer; ``first_text_at``,
    ``last_text_at``: the first event with text, and the latest; ``ended_at``: the outcome;
    ``closed_at``: the upstream call was over. ``delays`` are of all deliveries of live events.
    """

    def __init__(
        self, generation: Generation, origin: Origin, tokens: Tokens, delays: Histogram
    ) -> None:
        self.generation = generation
        self.origin = origin
        self.accepted_at = origin.accepted_at
        self.opened_at: float | None = None
        self.first_text_at: float | None = None
        self.last_text_at: float | None = None
        self.ended_at: float | None = None
        self.closed_at: float | None = None
        self.joins = 0
        self.readers: dict[Subscriber, Reader] = {}
        self.gone: deque[Reader] = deque(maxlen=KEPT_READERS)
        self._tokens = tokens
        self._delays = delays
        self._tally = origin.tally
        self._texts_seen = 0
        self._new: set[Reader] = set()  # lent before their first event
        # Of each read: when it was, the seq of its last event, the events with text until then.
        self._times = array("d")
        self._seqs = array("Q")
        self._texts = array("Q")
        self._passes = 0
        self._pass_seconds = 0.0

    # -- what the core tells -----------------------------------------------------------------------

    def opened(self) -> None:
        self.opened_at = trio.current_time()

    def arrived(self) -> None:
        now, texts = trio.current_time(), self._tally.text_events
        self._times.append(now)
        self._seqs.append(self.generation.transcript.last)
        self._texts.append(texts)
        if texts > self._texts_seen:
            self._texts_seen = texts
            self.last_text_at = now
            if self.first_text_at is None:
                self.first_text_at = now
        if len(self._times) == 2 * KEPT_READS:
            for column in (self._times, self._seqs, self._texts):
                del column[:KEPT_READS]

    def joined(self, subscriber: Subscriber, *, resumes: bool) -> None:
        joining: Joining = "resume" if resumes else "late" if self.joins else "first"
        self.joins += 1
        last = self.generation.transcript.last
        reader = Reader(joining, trio.current_time(), subscriber.cursor, last)
        reader.cursor = subscriber.cursor
        if reader.cursor == last:
            reader.caught_up_at = reader.joined_at
        self.readers[subscriber] = reader
        self._tokens.joined(self, reader)

    def handed(self, subscriber: Subscriber) -> None:
        reader = self.readers[subscriber]
        reader.lag = max(reader.lag, subscriber.lag)

    def delivered(self, subscriber: Subscriber) -> None:
        reader, now = self.readers[subscriber], trio.current_time()
        reader.cursor = subscriber.cursor
        reader.lag = max(reader.lag, subscriber.lag)
        if reader.first_at is None:
            reader.first_at = now
        if reader.caught_up_at is None and reader.cursor >= reader.history:
            reader.caught_up_at = now
        came_at = self._came_at(reader.cursor)
        if reader.cursor > reader.history and came_at is not None:
            delay = now - came_at
            reader.deliveries += 1
            reader.delay += delay
            reader.longest_delay = max(reader.longest_delay, delay)
            self._delays.observe(delay)

    def lent(self, subscriber: Subscriber) -> None:
        reader = self.readers[subscriber]
        reader.lent_since = (self._passes, self._pass_seconds)
        if reader.first_at is None:
            self._new.add(reader)

    def returned(self, subscriber: Subscriber) -> None:
        reader = self.readers[subscriber]
        reader.cursor = subscriber.cursor
        self._new.discard(reader)
        if reader.lent_since is not None:
            passes, seconds = reader.lent_since
            reader.deliveries += self._passes - passes
            reader.delay += self._pass_seconds - seconds
            reader.lent_since = None

    def passed(self, number: int, seconds: float) -> None:
        self._passes += 1
        self._pass_seconds += seconds
        self._delays.observe(seconds, number)
        if self._new:
            now = trio.current_time()
            for reader in self._new:
                reader.first_at = now
            self._new.clear()

    def beat(self, number: int) -> None:
        self._tokens.beat(number)

    def left(self, subscriber: Subscriber) -> None:
        reader = self.readers.pop(subscriber)
        reader.left_at = trio.current_time()
        reader.why = self._why(subscriber)
        self.gone.append(reader)
        self._tokens.left(self, reader)

    def ended(self) -> None:
        self.ended_at = trio.current_time()
        self._tokens.ended(self)

    def closed(self) -> None:
        self.closed_at = trio.current_time()
        self._tokens.closed(self)

    # -- what follows from it ----------------------------------------------------------------------

    @property
    def ttft(self) -> float | None:
        """Seconds from the request to the first event with text."""
        return None if self.first_text_at is None else self.first_text_at - self.accepted_at

    @property
    def duration(self) -> float:
        """Seconds from the request to the outcome, or until now."""
        until = self.ended_at if self.ended_at is not None else trio.current_time()
        return until - self.accepted_at

    @property
    def text_events(self) -> int:
        return self._tally.text_events

    @property
    def time_per_token(self) -> float | None:
        """Seconds for each event with text behind the first."""
        if self.first_text_at is None or self.last_text_at is None or self.text_events < 2:
            return None
        return (self.last_text_at - self.first_text_at) / (self.text_events - 1)

    @property
    def cancel_to_closed(self) -> float | None:
        """Seconds from a cancellation to the end of the upstream call; None where it was not
        cancelled, or is not over."""
        outcome = self.generation.outcome
        if outcome is None or outcome.kind != "cancelled":
            return None
        if self.closed_at is None or self.ended_at is None:
            return None
        return self.closed_at - self.ended_at

    def gaps(self) -> list[float]:
        """Seconds between one event with text and the next, as they came: 0 within a read."""
        gaps: list[float] = []
        before: float | None = None
        for when, number in self._texts_of_reads():
            if before is not None:
                gaps.append(when - before)
                number -= 1
            elif number:
                number -= 1
            else:
                continue
            gaps += [0.0] * number
            before = when
        return gaps

    def timeline(self) -> list[tuple[int, float]]:
        """Of each read: the seq of its last event, and the seconds from the request to it."""
        return [
            (seq, when - self.accepted_at)
            for seq, when in zip(self._seqs, self._times, strict=True)
        ]

    def _texts_of_reads(self) -> Iterator[tuple[float, int]]:
        """When a read brought events with text, and how many."""
        seen = 0
        for when, texts in zip(self._times, self._texts, strict=True):
            if texts > seen:
                yield when, texts - seen
                seen = texts

    def _came_at(self, seq: int) -> float | None:
        index = bisect_left(self._seqs, seq)
        return self._times[index] if index < len(self._times) else None

    def _why(self, subscriber: Subscriber) -> str:
        end, outcome = subscriber.end, self.generation.outcome
        if isinstance(end, Evicted):
            return end.reason
        if outcome is not None and (end or subscriber.cursor == self.generation.transcript.last):
            return outcome.kind
        return "gone"
