"""The two ways of reading an answer: as a stream of events, or as one whole body."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import trio

from trioproxy.fanout import COMPLETED, Arrival, Outcome, failed
from trioproxy.upstream.call import Answer
from trioproxy.upstream.errors import UpstreamBroken, UpstreamSilent
from trioproxy.upstream.request import Head
from trioproxy.wire import Dialect, EventTooLarge, Message, Tally, Verdict

OUTCOMES: dict[Verdict, Outcome] = {
    Verdict.COMPLETED: COMPLETED,
    Verdict.FAILED: failed("upstream_error", told=True),
}


class EventFeed:
    """A streamed answer, read as the messages of its dialect.

    ``first_deadline`` (trio time) bounds the wait for the first event, ``inter_token_timeout``
    (seconds) each wait after that; comments by which the upstream says that it is alive count for
    neither. ``tally`` counts each message as it comes. The data are the upstream's own bytes, but
    for a number that the dialect's events have and this upstream's lack.
    """

    def __init__(
        self,
        answer: Answer,
        dialect: Dialect,
        tally: Tally,
        *,
        first_deadline: float,
        inter_token_timeout: float,
        max_event_bytes: int,
    ) -> None:
        self.head: Head = answer.head
        self._answer = answer
        self._verdict = dialect.verdict
        self._numbered = dialect.numbered
        self._count = tally.count
        self._parser = dialect.framing.parser(max_event_bytes)
        self._events = 0
        self._deadline = first_deadline
        self._inter_token_timeout = inter_token_timeout
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival]]:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        """The events that the next read brought, one at least.

        Raises :class:`UpstreamSilent`, :class:`UpstreamBroken`. If cancelled, the answer is of no
        further use.
        """
        while not self._ended:
            chunk = await _next_chunk(
                self._answer, self._deadline, "the upstream sent no event for too long"
            )
            try:
                messages = self._parser.feed(chunk) if chunk else self._finish()
            except EventTooLarge as error:
                raise UpstreamBroken(f"the upstream's stream cannot be read: {error}") from error
            if messages:
                self._deadline = trio.current_time() + self._inter_token_timeout
                return [self._arrival(message) for message in messages]
        raise StopAsyncIteration

    def _finish(self) -> list[Message]:
        # A last event that lacks its blank line is discarded by the standard. If it is the terminal
        # one nothing else was lost, so it may count; any other may be incomplete, and the stream is
        # truncated.
        self._ended = True
        last = self._parser.finish()
        return [last] if last is not None and self._verdict(last) is not None else []

    def _arrival(self, message: Message) -> Arrival:
        verdict = self._verdict(message)
        self._count(message)
        name, data = message
        if self._numbered is not None:
            data = self._numbered(data, self._events)
        self._events += 1
        return Arrival(name, data, OUTCOMES[verdict] if verdict else None)


class WholeFeed:
    """An answer that is not a stream: its body in pieces, completed by its end."""

    def __init__(self, answer: Answer, *, deadline: float) -> None:
        self.head: Head = answer.head
        self._answer = answer
        self._deadline = deadline
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival]]:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        """The next piece. Raises :class:`UpstreamSilent`, :class:`UpstreamBroken`."""
        if self._ended:
            raise StopAsyncIteration
        chunk = await _next_chunk(
            self._answer, self._deadline, "the upstream did not finish its answer in time"
        )
        self._ended = not chunk
        return [Arrival(None, chunk, None if chunk else COMPLETED)]


async def _next_chunk(answer: Answer, deadline: float, complaint: str) -> bytes:
    """The next bytes of the body, b"" at its end; :class:`UpstreamSilent` at the deadline."""
    try:
        with trio.fail_at(deadline):
            return await anext(answer, b"")
    except trio.TooSlowError:
        raise UpstreamSilent(complaint) from None
