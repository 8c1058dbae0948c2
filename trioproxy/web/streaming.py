"""A subscriber's batches as the body of an HTTP response."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from types import TracebackType

import msgspec
import trio
from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.config import Settings
from trioproxy.fanout import Batch, Evicted, Outcome, Subscriber
from trioproxy.telemetry import Timing, describe_to
from trioproxy.web.connection import ProxyRequest
from trioproxy.web.failures import failure_of_end, failure_of_gap
from trioproxy.web.lane import ExpressLane, Lane, LaneSink, in_a_chunk, lane_of
from trioproxy.web.metronome import Metronome
from trioproxy.web.voice import Voice
from trioproxy.wire import Dialect, Framing, Message

GOING = {"shutdown", "draining", "reloaded"}
"""Reasons of an end that are the proxy's own: it, or another, can be asked again."""


def stream_headers(framing: Framing) -> dict[str, str]:
    """The head of a stream: not to be stored, compressed or held back by anything on the way."""
    return {
        "Content-Type": framing.content_type,
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }


def head_of_stream(framing: Framing) -> Response:
    """The answer to HEAD where GET streams."""
    response = Response(b"", headers=stream_headers(framing))
    del response.headers["Content-Length"]  # the stream has none
    return response


class Streams:
    """Responses that stream to a request what its subscriber gets; see :class:`StreamBody`."""

    def __init__(self, settings: Settings, metronome: Metronome) -> None:
        self._settings = settings
        self._metronome = metronome

    def respond(
        self, request: ProxyRequest, subscriber: Subscriber, dialect: Dialect, voice: Voice
    ) -> Response:
        """The response to ``request``."""
        body = StreamBody(
            subscriber,
            dialect,
            voice,
            self._settings,
            self._metronome,
            lane=lane_of(request.scope),
            wants_timing=request.headers.get("X-Timing") == "1",
        )
        return Response(body, headers=stream_headers(voice.framing))


class StreamBody(ResponseBody):
    """What a subscriber gets, as frames of a voice, and heartbeats where there is silence.

    Once its head and first piece are out, all else but its end is written to the ``lane``, where
    there is one. While its subscriber is caught up, an express lane is lent to the generation,
    which then writes to the client without a task in between; not so where the settings want some
    time between two writes. Who ``wants_timing`` is told it in a comment behind the end, if the
    generation is timed and the framing has comments.

    It acquires nothing: the subscriber belongs to the request's stack. If cancelled while it waits,
    nothing was taken from the subscriber.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        dialect: Dialect,
        voice: Voice,
        settings: Settings,
        metronome: Metronome,
        *,
        lane: Lane | None,
        wants_timing: bool = False,
    ) -> None:
        self._lane = lane
        self._flush_interval = settings.flush_interval
        self._head_is_out = False
        self._subscriber = subscriber
        self._dialect = dialect
        self._voice = voice
        self._heartbeat = settings.heartbeat
        self._metronome = metronome if voice.heartbeat else Metronome(math.inf)
        self._wants_timing = wants_timing
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
        """The first piece, and then, with a lane, the last; without one, each."""
        if self._ended:
            raise StopAsyncIteration
        if not self._head_is_out:
            self._head_is_out = True  # with the piece that is returned
            return await self._next_piece()
        express = self._express_lane()
        while True:
            if self._flush_interval:
                await trio.sleep(self._flush_interval)
            if express is not None:
                await self._lend(express)
            piece = await self._next_piece()
            if self._lane is None or self._ended:
                return piece
            await self._lane.write(in_a_chunk(piece))

    def _express_lane(self) -> ExpressLane | None:
        """The lane, where it may be lent."""
        is_steady = self._subscriber.on_lag != "skip" and not self._flush_interval
        can_lend = bool(self._voice.heartbeat) and is_steady
        return self._lane if can_lend and isinstance(self._lane, ExpressLane) else None

    async def _next_piece(self) -> bytes:
        """All that is new; a heartbeat after ``heartbeat`` seconds of silence; what is said at the
        end. Raises :exc:`StopAsyncIteration` where that is nothing."""
        subscriber = self._subscriber
        self._metronome.expect(subscriber)
        try:
            batch = await anext(subscriber)
        except StopAsyncIteration:
            piece = self._end(self._farewell(subscriber.end))
            if not piece:
                raise
            is_going = subscriber.end is not None and subscriber.end.reason in GOING
            return self._voice.come_back + piece if is_going else piece
        finally:
            self._metronome.forget(subscriber)
        return self._frames(batch) if batch.events or batch.gap else self._voice.heartbeat

    async def _lend(self, lane: ExpressLane) -> None:
        """Let the generation write to the client while it keeps up."""
        subscriber = self._subscriber
        sink = LaneSink(lane, self._voice, self._heartbeat)
        before = subscriber.cursor
        while subscriber.is_current and lane.is_clear:
            await subscriber.lend(sink)
        if subscriber.cursor > before:
            self._delivered = subscriber.cursor
        if not lane.is_clear:
            await lane.flush()

    def _frames(self, batch: Batch) -> bytes:
        if batch.events:
            self._delivered = batch.events[-1].seq
        if batch.gap is None:
            return batch.render(self._voice.render)
        if self._voice.tell_gap is not None:
            return self._voice.tell_gap(batch.gap) + batch.render(self._voice.render)
        return self._end(self._dialect.failure(failure_of_gap(batch.gap), batch.gap.last))

    def _farewell(self, end: Outcome | Evicted | None) -> tuple[Message, ...]:
        """What is still to be said: nothing where the last event has said it to this client."""
        if end is None:
            return ()
        last = self._subscriber.generation.transcript.last
        if isinstance(end, Outcome) and end.kind == "completed":
            has_read_last = last in (self._delivered, self._resumed_after)
            return () if has_read_last else self._dialect.closing
        if isinstance(end, Outcome) and end.told and self._delivered == last:
            return self._dialect.closing
        return self._dialect.failure(failure_of_end(end), last)

    def _end(self, messages: tuple[Message, ...]) -> bytes:
        """What is written last: the ``messages``, and the timing."""
        self._ended = True
        return (self._encode(messages) if messages else b"") + self._timing()

    def _timing(self) -> bytes:
        timing, comment = self._subscriber.generation.watch, self._voice.framing.comment
        if not (self._wants_timing and comment and isinstance(timing, Timing)):
            return b""
        return comment(b"timing " + msgspec.json.encode(describe_to(self._subscriber, timing)))

    def _encode(self, messages: tuple[Message, ...]) -> bytes:
        generation = self._subscriber.generation
        encode = self._voice.framing.encode
        frames = [encode(message, None) for message in messages[:-1]]
        end_id = None
        if self._voice.ends_with_id and isinstance(self._subscriber.end, Outcome):
            end_id = f"{generation.id}:{generation.transcript.last + 1}".encode()
        return b"".join([*frames, encode(messages[-1], end_id)])
