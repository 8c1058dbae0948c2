"""The API's own routes: a request starts a generation, joins one, or takes one up again."""

from __future__ import annotations

import trio
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.config import Settings
from trioproxy.fanout import Outcome, Subscriber, UnknownGeneration
from trioproxy.upstream import Head
from trioproxy.web.asking import read_asking, read_cursor, read_linger
from trioproxy.web.calls import Calls, cache_status
from trioproxy.web.connection import current_request
from trioproxy.web.failures import respond_to_end, respond_to_gap
from trioproxy.web.messages import CacheStatus
from trioproxy.web.responses import name_generation, tell_of_call, upstream_response
from trioproxy.web.streaming import Streams
from trioproxy.web.voice import api_voice
from trioproxy.wire import Dialect, read_call, with_stream


class Generate:
    """``POST`` on the routes of a dialect."""

    def __init__(self, settings: Settings, calls: Calls, streams: Streams) -> None:
        self._settings = settings
        self._calls = calls
        self._streams = streams

    async def answer(self, dialect: Dialect) -> Response:
        """Handle one request. What it acquires is on the request's stack when this returns or
        raises."""
        request = current_request()
        body = await request.read_body()
        call = read_call(body)
        streamed = self._streams_by_default(dialect) if call.stream is None else call.stream
        if streamed and call.stream is None and not dialect.streams_by_default:
            body = with_stream(body)
        linger = read_linger(request, self._settings.linger)
        return await self.answer_call(dialect, body, streamed=streamed, linger=linger)

    async def answer_call(
        self, dialect: Dialect, body: bytes, *, streamed: bool, linger: float
    ) -> Response:
        """Answer the current request with what the engine answers to ``body``."""
        subscriber, cache = await self.subscribe(dialect, body, streamed=streamed, linger=linger)
        response = await (self._stream(subscriber, dialect) if streamed else _whole(subscriber))
        name_generation(response, subscriber.generation)
        response.headers["X-Cache"] = cache
        return response

    async def subscribe(
        self, dialect: Dialect, body: bytes, *, streamed: bool, linger: float
    ) -> tuple[Subscriber, CacheStatus]:
        """Subscribe the current request to what the engine answers, or has answered, to ``body``:
        to a generation that is new, or to one that runs or is taken up again."""
        request = current_request()
        caller = request.caller
        asking = read_asking(
            caller,
            request.path,
            dialect,
            body,
            streamed=streamed,
            coalesce=self._settings.coalesce,
            mode=request.headers.get("X-Fanout"),
            own_key=request.headers.get("X-Generation-Key"),
            linger=linger,
            accepted_at=request.accepted_at,
        )
        cursor = read_cursor(request)
        stack = request.exit_stack
        if cursor is None:
            async with self._calls.place(asking, body) as placed:
                joining = self._calls.join(caller, asking, body, placed)
                subscriber = stack.enter_context(joining)
        else:
            if cursor.generation_id is None:
                raise UnknownGeneration("the event id names no generation")
            reaching = self._calls.reach(caller, cursor.generation_id, after=cursor.seq)
            async with reaching as generation, self._calls.seat(generation.tenant):
                joining = self._calls.take_up(generation, asking, cursor.seq)
                subscriber = stack.enter_context(joining)
        return subscriber, cache_status(subscriber.generation, asking)

    def _streams_by_default(self, dialect: Dialect) -> bool:
        """Whether a request that does not say so is streamed."""
        default = self._settings.default_stream
        if default is None:
            default = self._settings.is_simulated
        return dialect.streams_by_default or default

    async def _stream(self, subscriber: Subscriber, dialect: Dialect) -> Response:
        """The head, as soon as the upstream's has come; without it, after ``commit_after``
        seconds of silence."""
        generation = subscriber.generation
        with trio.move_on_after(self._settings.commit_after):
            await generation.wait_opened()
        outcome = generation.outcome
        if generation.head is None and outcome is not None and outcome.kind != "completed":
            return respond_to_end(outcome)  # (a replica may be complete but for its head)
        response = self._streams.respond(current_request(), subscriber, dialect, api_voice(dialect))
        if isinstance(generation.head, Head):
            tell_of_call(response, generation.head.headers)
        return response


async def _whole(subscriber: Subscriber) -> Response:
    """The whole answer, as the upstream gave it, once it is complete."""
    pieces: list[bytes] = []  # the transcript's own: however many readers, they are there once
    async for batch in subscriber:
        if batch.gap is not None:
            return respond_to_gap(batch.gap)
        pieces += [event.data for event in batch.events]
    head, end = subscriber.generation.head, subscriber.end
    if isinstance(head, Head) and isinstance(end, Outcome) and end.kind == "completed":
        return upstream_response(head.status, head.headers, pieces)
    assert end is not None
    return respond_to_end(end)
