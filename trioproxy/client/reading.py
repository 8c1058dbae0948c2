"""What was read of one generation, and how that ends: bytes in, events out, no I/O.

Whatever becomes of connections, ``received`` is all that has to be known to go on: the seq of the
last event that came. How a stream ends is decided by the generation, not by the connection:

* A terminal event, or an error event of the transcript, ends it at once.
* Where the proxy says in its own words that something failed, or ends the answer before any such
  event, that may concern the generation, or this reader alone (sent away for being slow, or for a
  shutdown). That is a *doubt*, and the generation's description settles it: one that has ended, and
  of which all was read, ends the stream; of any other there is more to read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from trioproxy.client.calls import Description
from trioproxy.client.errors import (
    AttemptFailed,
    ClientError,
    Gap,
    GenerationFailed,
    GenerationGone,
    UnexpectedAnswer,
)
from trioproxy.client.events import Event
from trioproxy.client.hearing import Hearing, HearingCount, HearingIds, words_of
from trioproxy.wire import Dialect, Message, Verdict

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Doubt:
    """An answer is over, and whether its generation is remains to be seen. ``message`` is what the
    proxy said, None where it said nothing."""

    message: str | None = None
    code: str | None = None


class Reading:
    """What was read of the generation ``generation_id``, in its ``dialect``.

    ``is_live`` says that the first event may be any; ``doubt`` that the answer is over;
    ``has_ended`` that nothing more is to be received.
    """

    def __init__(self, generation_id: str, dialect: Dialect, *, after: int, live: bool) -> None:
        self.generation_id = generation_id
        self.dialect = dialect
        self.received = after
        self.is_live = live
        self.doubt: Doubt | None = None
        self.has_ended = False
        self._failure: ClientError | None = None
        self._pending = deque[Event | Gap]()
        self._hearing: Hearing

    @property
    def can_be_taken(self) -> bool:
        """Whether :meth:`take` has something to give, or to raise."""
        return bool(self._pending) or self.has_ended

    def take(self) -> Event:
        """The next event. Raises :class:`Gap` in the place of those that are gone; at the end the
        generation's failure, or :exc:`StopAsyncIteration`."""
        if not self._pending:
            raise self._failure or StopAsyncIteration
        event = self._pending.popleft()
        if isinstance(event, Gap):
            raise event
        return event

    # -- an answer ---------------------------------------------------------------------------------

    def can_count(self, *, joined: bool) -> bool:
        """Whether the events of the API's own answer can be told apart by number: by their ids, or
        by counting, which takes an answer that begins with the first."""
        has_ids = self.dialect.framing.media_type == EVENT_STREAM
        return has_ids or not (self.is_live and joined)

    def begin(self, content_type: str) -> None:
        """An answer begins. Raises :class:`UnexpectedAnswer` where it is no stream of events."""
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == EVENT_STREAM:
            self._hearing = HearingIds(self.generation_id)
        elif media_type == self.dialect.framing.media_type:
            self._hearing = HearingCount(self.dialect)
        else:
            raise UnexpectedAnswer(f"the answer is no stream of events but {content_type!r}")

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes of the answer, b"" at its end. Returns whether they brought anything
        new. Raises :class:`UnexpectedAnswer`."""
        if not chunk:
            self.doubt = Doubt()
            return False
        before = self.received
        for seq, message in self._hearing.feed(chunk):
            if seq is None:
                self._hear_the_proxy(message)
            elif seq > self.received:
                self._receive(seq, message)
            if self.doubt is not None or self.has_ended:
                break
        return self.received > before

    def _receive(self, seq: int, message: Message) -> None:
        if seq > self.received + 1 and not self.is_live:
            self._miss(self.received + 1, seq - 1)
        verdict = self.dialect.verdict(message)
        if verdict is Verdict.FAILED:
            self._fail(*words_of(message.data), after=seq - 1)
        else:
            name = message.name and message.name.decode(errors="replace")
            self._pending.append(
                Event(self.generation_id, seq, name or None, message.data, self.dialect)
            )
        self.has_ended = verdict is not None
        self.received = seq
        self.is_live = False

    def _hear_the_proxy(self, message: Message) -> None:
        verdict = self.dialect.verdict(message)
        if verdict is Verdict.FAILED:
            self.doubt = Doubt(*words_of(message.data))
        elif verdict is Verdict.COMPLETED:
            self.has_ended = True
        elif message.name == b"gap":
            gap = _read_gap(message.data)
            if gap.last > self.received:
                self._miss(gap.first, gap.last)
                self.received = gap.last
                self.is_live = False

    def _miss(self, first: int, last: int) -> None:
        self._pending.append(Gap(self.generation_id, first, last))

    # -- its end -----------------------------------------------------------------------------------

    def settle(self, description: Description) -> None:
        """Settle the doubt. Raises :class:`AttemptFailed` where there is more to read."""
        doubt, self.doubt = self.doubt or Doubt(), None
        outcome = description.outcome
        has_more = description.events > self.received and not self.is_live
        if outcome is None or has_more:
            raise AttemptFailed(doubt.message or "the answer ended before the generation")
        self.has_ended = True
        if outcome.kind != "completed":
            reason = outcome.reason or outcome.kind
            message = doubt.message or f"{outcome.kind}: {reason}"
            self._fail(message, doubt.code or reason, after=self.received)

    def be_gone(self, gone: GenerationGone) -> None:
        """The generation is no longer known: what was said of its end is the last word on it."""
        doubt, self.doubt = self.doubt, None
        self.has_ended = True
        if doubt is None or doubt.message is None:
            self._failure = gone
        else:
            self._fail(doubt.message, doubt.code, after=self.received)

    def _fail(self, message: str, code: str | None, *, after: int) -> None:
        self._failure = GenerationFailed(message, code, self.generation_id, after)


class _Bounds(msgspec.Struct):
    first: int
    last: int


def _read_gap(data: bytes) -> _Bounds:
    try:
        return msgspec.json.decode(data, type=_Bounds)
    except ValueError as error:
        raise UnexpectedAnswer(f"this tells no gap: {data!r}") from error
