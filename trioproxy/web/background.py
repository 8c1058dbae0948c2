"""The Responses API beyond one request: calls in the background, looked at, read on and stopped.

Source: the API reference, "Responses" and the guide "Background mode"
(https://platform.openai.com/docs/guides/background). It works over any engine that streams
responses: the engine sees an ordinary call that streams, and what it has told of its response
object is what is answered here. An id that is not of a generation here is the engine's own affair,
and the request goes there.
"""

from __future__ import annotations

from quart_trio.wrappers import TrioResponse as Response

from trioproxy.config import Settings
from trioproxy.fanout import CursorAhead, Generation, Subscriber, UnknownGeneration
from trioproxy.web.asking import MAX_LINGER, read_cursor, read_linger
from trioproxy.web.calls import Calls
from trioproxy.web.connection import current_request
from trioproxy.web.failures import failure_of_end, respond_to_end, respond_to_gap
from trioproxy.web.forwarding import Forward
from trioproxy.web.generate import Generate
from trioproxy.web.responses import name_generation
from trioproxy.web.streaming import Streams
from trioproxy.web.voice import api_voice
from trioproxy.wire import (
    OPENAI_RESPONSES,
    BadRequest,
    in_foreground,
    number_of,
    read_call,
    snapshot_of,
    wants_background,
    with_status,
)

DIALECT = OPENAI_RESPONSES
VOICE = api_voice(DIALECT)


class Background:
    """``/v1/responses`` and what lies below it."""

    def __init__(
        self,
        settings: Settings,
        calls: Calls,
        streams: Streams,
        generate: Generate,
        forward: Forward,
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._streams = streams
        self._generate = generate
        self._forward = forward

    async def create(self) -> Response:
        """Start a response, or join one: as on every route of the API, unless it is to go on in the
        background. Then it outlives its client, and one who did not ask for the stream is answered
        as soon as the engine has told its id."""
        body = await current_request().read_body()
        if not wants_background(body):
            return await self._generate.answer(DIALECT)
        request = current_request()
        streams = read_call(body).stream
        body, stay = in_foreground(body), read_linger(request, MAX_LINGER)
        if streams:
            return await self._generate.answer_call(DIALECT, body, streamed=True, linger=stay)
        # Until its client has been told its id, nobody could come back for it.
        linger = self._settings.linger
        subscriber, _ = await self._generate.subscribe(DIALECT, body, streamed=True, linger=linger)
        response = await _first_snapshot(subscriber)
        subscriber.generation.outlive_subscribers(stay)
        return response

    async def retrieve(self, response_id: str) -> Response:
        """The response as it is now, or (``?stream=true``) its events after number
        ``starting_after``."""
        request = current_request()
        async with self._calls.reach_response(request.caller, response_id) as generation:
            if generation is None:
                return await self._ask_engine(response_id)
            if request.args.get("stream") != "true" or request.method == "HEAD":
                return _respond(generation)
            async with self._calls.seat(generation.tenant):
                subscriber = request.exit_stack.enter_context(
                    self._calls.read(generation, after=_read_after(generation))
                )
        response = self._streams.respond(request, subscriber, DIALECT, VOICE)
        name_generation(response, generation)
        return response

    async def cancel(self, response_id: str) -> Response:
        """Stop it for everyone. One that has ended is left as it is."""
        caller = current_request().caller
        async with self._calls.reach_response(caller, response_id) as generation:
            if generation is None:
                return await self._ask_engine(response_id)
            self._calls.stop(generation)
            return _respond(generation)

    async def _ask_engine(self, response_id: str) -> Response:
        """For a response that is none of ours. To an engine all tenants are one, so where there are
        any, only an admin may ask."""
        request = current_request()
        if not request.caller.is_operator:
            raise UnknownGeneration(f"there is no response {response_id}")
        return await self._forward.answer(request.path.removeprefix("/"))


async def _first_snapshot(subscriber: Subscriber) -> Response:
    generation = subscriber.generation
    if any(snapshot_of(event.data) for event in generation.transcript.events):
        return _respond(generation)  # one that ran already
    async for batch in subscriber:
        if batch.gap is not None:
            return respond_to_gap(batch.gap)
        if any(snapshot_of(event.data) for event in batch.events):
            return _respond(subscriber.generation)
    assert subscriber.end is not None
    return respond_to_end(subscriber.end)


def _respond(generation: Generation) -> Response:
    response = Response(_describe(generation), content_type="application/json")
    name_generation(response, generation)
    return response


def _describe(generation: Generation) -> bytes:
    """The response object as the engine told it last; with a status of ours where the engine did
    not get to tell the end."""
    response = next(
        filter(None, (snapshot_of(event.data) for event in reversed(generation.transcript.events))),
        b'{"object":"response"}',
    )
    outcome = generation.outcome
    if outcome is None or outcome.kind == "completed":
        return response
    events = generation.transcript.events
    if outcome.told and events and snapshot_of(events[-1].data):
        return response  # the engine has told how it ended, in the object itself
    if outcome.kind == "cancelled":
        return with_status(response, "cancelled")
    return with_status(response, "failed", failure_of_end(outcome))


def _read_after(generation: Generation) -> int:
    """The seq after which the request wants to read on. Raises :class:`BadRequest` and
    :class:`~trioproxy.fanout.CursorAhead`."""
    request = current_request()
    cursor = read_cursor(request)
    if cursor is not None:
        return cursor.seq
    text = request.args.get("starting_after")
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise BadRequest("'starting_after' must be the number of an event", "starting_after")
    after = int(text)
    numbers = [(number_of(event.data), event.seq) for event in generation.transcript.events]
    told = [(number, seq) for number, seq in numbers if number is not None]
    if told and told[-1][0] < after:
        raise CursorAhead(f"event {after} was asked for, the latest is {told[-1][0]}")
    if not told or told[0][0] > after:  # before what is held, if anything was dropped
        return max(0, told[0][1] - (told[0][0] - after)) if told else 0
    return max(seq for number, seq in told if number <= after)
