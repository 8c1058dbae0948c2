"""When each token of a generation came, and how each of its readers fared.

Times are those of trio's clock, in seconds. On the path of a token there is one observation for
each read of the upstream, and one for each pass that writes to readers; all that is derived from
them is derived when somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import trio

from trioproxy.fanout import Evicted, Generation, Subscriber, Watch
from trioproxy.telemetry.histogram import Histogram
from trioproxy.telemetry.reader import Joining, Reader
from trioproxy.telemetry.reads import Reads
from trioproxy.wire import Dialect, Tally

KEPT_READERS = 100
"""Of so many readers that have left is told how they fared, the last."""


class Origin(Protocol):
    """What a generation was started for: ``accepted_at`` is when the request came, in trio's time;
    ``trace_context`` the W3C trace context that goes upstream, to be changed by who traces it."""

    @property
    def path(self) -> str: ...
    @property
    def dialect(self) -> Dialect: ...
    @property
    def model(self) -> str | None: ...
    @property
    def tally(self) -> Tally: ...
    @property
    def accepted_at(self) -> float: ...
    @property
    def trace_context(self) -> dict[str, str]: ...
    @property
    def is_replay(self) -> bool: ...


@runtime_checkable
class ConnectedHead(Protocol):
    """The head of an answer that knows when its call had a connection, and with whom."""

    @property
    def connected_at(self) -> float | None: ...
    @property
    def upstream(self) -> str: ...


class Listener:
    """Is told what happens seldom enough to be told at once. Here, every method does nothing; none
    may wait or raise."""

    def started(self, timing: Timing) -> None: ...
    def joined(self, timing: Timing, reader: Reader) -> None: ...
    def left(self, timing: Timing, reader: Reader) -> None: ...
    def outlives(self, timing: Timing) -> None: ...
    def beat(self, number: int) -> None: ...
    def ended(self, timing: Timing) -> None: ...
    def closed(self, timing: Timing) -> None: ...


class Timing(Watch):
    """The times of one generation. Those that have not come are None.

    ``accepted_at``: the request came; ``created_at``: it was started; ``opened_at``: the head of
    the answer; ``first_text_at``: the first event with text; ``ended_at``: the outcome;
    ``closed_at``: the upstream call was over. ``reads`` are those of the upstream, up to the
    outcome; ``delays`` are of all deliveries of live events. ``told_gaps`` is what was told of the
    gaps since it ended: they change no more.
    """

    def __init__(
        self,
        generation: Generation,
        origin: Origin,
        listeners: Sequence[Listener],
        delays: Histogram,
    ) -> None:
        self.generation = generation
        self.origin = origin
        self.accepted_at = origin.accepted_at
        self.created_at = trio.current_time()
        self.opened_at: float | None = None
        self.first_text_at: float | None = None
        self.ended_at: float | None = None
        self.closed_at: float | None = None
        self.joins = 0
        self.late_joins = 0
        self.readers: dict[Subscriber, Reader] = {}
        self.gone: deque[Reader] = deque(maxlen=KEPT_READERS)
        self.reads = Reads()
        self.told_gaps: dict[str, object] | None = None
        self._listeners = listeners
        self._delays = delays
        self._tally = origin.tally
        self._transcript = generation.transcript
        self._new: set[Reader] = set()  # lent before their first event
        self._passes = 0
        self._pass_seconds = 0.0

    # -- what the core tells -----------------------------------------------------------------------

    def started(self) -> None:
        for listener in self._listeners:
            listener.started(self)

    def opened(self) -> None:
        self.opened_at = trio.current_time()

    def arrived(self, now: float) -> None:
        texts = self._tally.text_events
        self.reads.note(now, self._transcript.last, texts)
        if self.first_text_at is None and texts:
            self.first_text_at = now

    def joined(self, subscriber: Subscriber, *, resumes: bool) -> None:
        joining: Joining
        if not subscriber.counts:
            joining = "node"
        else:
            joining = "resume" if resumes else "late" if self.joins else "first"
            self.joins += 1
            self.late_joins += joining == "late"
        last = self.generation.transcript.last
        reader = Reader(joining, trio.current_time(), subscriber.cursor, last)
        reader.cursor = subscriber.cursor
        if reader.cursor == last:
            reader.caught_up_at = reader.joined_at
        self.readers[subscriber] = reader
        for listener in self._listeners:
            listener.joined(self, reader)

    def delivered(self, subscriber: Subscriber) -> None:
        reader, now = self.readers[subscriber], trio.current_time()
        reader.cursor = cursor = subscriber.cursor
        if (lag := subscriber.lag) > reader.lag:
            reader.lag = lag
        if reader.first_at is None:
            reader.first_at = now
        if cursor < reader.history:
            return
        if reader.caught_up_at is None:
            reader.caught_up_at = now
        if cursor > reader.history:
            delay = now - self.reads.came_at(cursor)
            reader.deliveries += 1
            reader.delay += delay
            if reader.longest_delay is not None and delay > reader.longest_delay:
                reader.longest_delay = delay
            self._delays.observe(delay)

    def lent(self, subscriber: Subscriber) -> None:
        reader = self.readers[subscriber]
        reader.lent_since = (self._passes, self._pass_seconds)
        reader.longest_delay = None
        if reader.first_at is None:
            self._new.add(reader)

    def returned(self, subscriber: Subscriber) -> None:
        reader = self.readers[subscriber]
        self._new.discard(reader)
        self._follow(subscriber, reader)
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
        for listener in self._listeners:
            listener.beat(number)

    def left(self, subscriber: Subscriber) -> None:
        reader = self.readers.pop(subscriber)
        reader.left_at = trio.current_time()
        self._follow(subscriber, reader)
        reader.lag = max(reader.lag, subscriber.lag)
        if isinstance(subscriber.end, Evicted):
            reader.evicted = subscriber.end.reason
        reader.why = self._why(subscriber)
        self.gone.append(reader)
        for listener in self._listeners:
            listener.left(self, reader)

    def outlives(self) -> None:
        for listener in self._listeners:
            listener.outlives(self)

    def ended(self) -> None:
        self.ended_at = trio.current_time()
        for listener in self._listeners:
            listener.ended(self)

    def closed(self) -> None:
        self.closed_at = trio.current_time()
        for listener in self._listeners:
            listener.closed(self)

    # -- what follows from it ----------------------------------------------------------------------

    @property
    def connected_at(self) -> float | None:
        """When the call to the engine had a connection; None where there was no call."""
        head = self.generation.head
        return head.connected_at if isinstance(head, ConnectedHead) else None

    @property
    def upstream(self) -> str | None:
        """The name of the upstream that answers."""
        head = self.generation.head
        return head.upstream if isinstance(head, ConnectedHead) else None

    @property
    def all_readers(self) -> list[Reader]:
        """Those that have left, the last :data:`KEPT_READERS` of them, and those that are here."""
        for subscriber, reader in self.readers.items():
            self._follow(subscriber, reader)
        return [*self.gone, *self.readers.values()]

    def since_accepted(self, when: float | None) -> float | None:
        """Seconds from the request to then."""
        return None if when is None else when - self.accepted_at

    @property
    def ttft(self) -> float | None:
        """Seconds from the request to the first event with text."""
        return self.since_accepted(self.first_text_at)

    @property
    def duration(self) -> float:
        """Seconds from the request to the outcome, or until now."""
        until = self.ended_at if self.ended_at is not None else trio.current_time()
        return until - self.accepted_at

    @property
    def time_per_token(self) -> float | None:
        """Seconds for each event with text behind the first."""
        if self.first_text_at is None or self.reads.text_events < 2:
            return None
        return (self.reads.last_text_at - self.first_text_at) / (self.reads.text_events - 1)

    @property
    def tokens_per_second(self) -> float | None:
        """Events with text behind the first, by the time from the first to the latest."""
        seconds = self.time_per_token
        return 1 / seconds if seconds else None

    @property
    def input_tokens(self) -> int | None:
        """As the engine told them."""
        usage = self._tally.usage
        return usage and usage.prompt_tokens

    @property
    def output_tokens(self) -> int | None:
        """As the engine told them; else its events with text; None where there are none."""
        usage = self._tally.usage
        told = usage and usage.completion_tokens
        return told if told is not None else self.reads.text_events or None

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

    def _follow(self, subscriber: Subscriber, reader: Reader) -> None:
        """Note of a reader of whom no delivery is told how far it has come: one that reads for
        another node, or to which the pump has written since it was lent, or last asked."""
        if not subscriber.counts:
            reader.cursor = subscriber.cursor
        if reader.lent_since is not None:
            passes, seconds = reader.lent_since
            reader.cursor = subscriber.cursor
            reader.deliveries += self._passes - passes
            reader.delay += self._pass_seconds - seconds
            reader.lent_since = (self._passes, self._pass_seconds)

    def _why(self, subscriber: Subscriber) -> str:
        """Why a reader left: it was sent away, it had read how the generation ended, or it went."""
        end, generation = subscriber.end, self.generation
        if isinstance(end, Evicted):
            return end.reason
        if end is not None:
            return end.kind
        has_read_all = subscriber.cursor == generation.transcript.last
        return generation.outcome.kind if generation.outcome and has_read_all else "gone"
