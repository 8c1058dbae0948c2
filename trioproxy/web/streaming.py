"""A subscriber's batches as the body of an HTTP response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import cache
from types import TracebackType

import trio
from quart.wrappers.response import ResponseBody

from trioproxy.fanout import Batch, Event, Evicted, Gap, Outcome, Renderer, Subscriber
from trioproxy.web.failures import failure_of_end, failure_of_gap
from trioproxy.wire import Dialect, Message

STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""The head of every stream: not to be stored, compressed or held back by anything on the way."""


@cache
def renderer_for(dialect: Dialect) -> Renderer:
    """How ``dialect`` frames an event: one function for each dialect, so that its frames are
    cached once."""

    def render(generation_id: str, event: Event) -> bytes:
        event_id = f"{generation_id}:{event.seq}".encode()
        return dialect.encode(Message(event.name, event.data), event_id)

    return render


class StreamBody(ResponseBody):
    """What a subscriber gets, as frames of its generation's dialect, and heartbeats in silence.

    It acquires nothing: the subscriber belongs to the request's stack. ``tell_gap`` frames a gap
    for clients that know what that is; without it a gap is told as the dialect's error and ends the
    stream. If cancelled while it waits, nothing was taken from the subscriber.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        dialect: Dialect,
        *,
        heartbeat: float,
        tell_gap: Callable[[Gap], bytes] | None = None,
    ) -> None:
        self._subscriber = subscriber
        self._dialect = dialect
        self._render = renderer_for(dialect)
        self._heartbeat = heartbeat
        self._tell_gap = tell_gap
        self._ended = False
        self._resumed_after = subscriber.cursor
        self._delivered = 0

    async def __aenter__(self) -> StreamBody:
        return self

    async def __aexit__(self, exc_type: type, exc_value: BaseException, tb: TracebackType) -> None:
        pass

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """All that is new, as one piece of bytes; a heartbeat after ``heartbeat`` seconds of
        silence."""
        if self._ended:
            raise StopAsyncIteration
        with trio.CancelScope(deadline=trio.current_time() + self._heartbeat):
            batch = await anext(self._subscriber, None)
            if batch is not None:
                return self._frames(batch)
            self._ended = True
            farewell = self._farewell(self._subscriber.end)
            if not farewell:
                raise StopAsyncIteration
            return farewell
        return self._dialect.heartbeat

    def _frames(self, batch: Batch) -> bytes:
        if batch.events:
            self._delivered = batch.events[-1].seq
        if batch.gap is None:
            return batch.render(self._render)
        if self._tell_gap is not None:
            return self._tell_gap(batch.gap) + batch.render(self._render)
        self._ended = True
        return self._encode(self._dialect.failure(failure_of_gap(batch.gap)))

    def _farewell(self, end: Outcome | Evicted | None) -> bytes:
        """What is still to be said: nothing where the last event has said it to this client."""
        if end is None:
            return b""
        last = self._subscriber.generation.transcript.last
        if isinstance(end, Outcome) and end.kind == "completed":
            has_read_last = last in (self._delivered, self._resumed_after)
            return b"" if has_read_last else self._encode(self._dialect.closing)
        if isinstance(end, Outcome) and end.told and self._delivered == last:
            return self._encode(self._dialect.closing)
        return self._encode(self._dialect.failure(failure_of_end(end)))

    def _encode(self, messages: tuple[Message, ...]) -> bytes:
        return b"".join(self._dialect.encode(message, None) for message in messages)
