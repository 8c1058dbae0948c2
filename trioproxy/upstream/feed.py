"""The two ways of reading an answer: as a stream of events, or as one whole body."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

import trio

from trioproxy.fanout import COMPLETED, Arrival, Outcome, failed
from trioproxy.upstream.call import Answer
from trioproxy.upstream.errors import UpstreamBroken
from trioproxy.upstream.request import Head
from trioproxy.wire import Dialect, EventTooLarge, Message, Tally, Verdict

OUTCOMES: dict[Verdict, Outcome] = {
    Verdict.COMPLETED: COMPLETED,
    Verdict.FAILED: failed("upstream_error", told=True),
}

STRIDE = 0.01
"""The part of a timeout by which it may be exceeded."""


class EventFeed:
    """A streamed answer, read as the messages of its dialect.

    ``patience`` is the scope in which it is read. Each event moves its deadline to what
    ``inter_token_timeout`` (seconds) allows until the next; comments by which the upstream says
    that it is alive do not. ``tally`` counts each message as it comes. The data are the upstream's
    own bytes, but for a number that the dialect's events have and this upstream's lack.
    """

    def __init__(
        self,
        answer: Answer,
        dialect: Dialect,
        tally: Tally,
        *,
        patience: trio.CancelScope,
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
        self._patience = patience
        self._inter_token_timeout = inter_token_timeout
        self._latest = -math.inf
        self._ended = False
        self._ahead: Sequence[Arrival] = ()

    async def begin(self) -> None:
        """Wait until the first events have come; they are read behind this as any.

        Raises :class:`UpstreamBroken`, also where there are none. If cancelled, the answer is of no
        further use.
        """
        try:
            self._ahead = await self.__anext__()
        except StopAsyncIteration:
            raise UpstreamBroken("the upstream's stream ended before its first event") from None

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival]]:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        """The events that the next read brought, one at least.

        Raises :class:`UpstreamBroken`. If cancelled, the answer is of no further use.
        """
        if self._ahead:
            ahead, self._ahead = self._ahead, ()
            return ahead
        while not self._ended:
            chunk = await self._answer.receive()
            try:
                messages = self._parser.feed(chunk) if chunk else self._finish()
            except EventTooLarge as error:
                raise UpstreamBroken(f"the upstream's stream cannot be read: {error}") from error
            if messages:
                self._expect_next()
                return [self._arrival(message) for message in messages]
        raise StopAsyncIteration

    def _expect_next(self) -> None:
        # To move a deadline costs more than to read a token, so it is moved in strides: silence is
        # allowed for the timeout and up to a stride more.
        now = trio.current_time()
        if now > self._latest:
            stride = self._inter_token_timeout * STRIDE
            self._latest = now + stride
            self._patience.deadline = now + self._inter_token_timeout + stride

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

    def __init__(self, answer: Answer) -> None:
        self.head: Head = answer.head
        self._answer = answer
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival]]:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        """The next piece. Raises :class:`UpstreamBroken`."""
        if self._ended:
            raise StopAsyncIteration
        chunk = await self._answer.receive()
        self._ended = not chunk
        return [Arrival(None, chunk, None if chunk else COMPLETED)]
