"""The API's own routes: a request starts a generation, joins one, or takes one up again."""

from __future__ import annotations

from collections.abc import Hashable

import trio
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.config import Settings
from trioproxy.fanout import (
    ExpiredGeneration,
    Generation,
    Hub,
    OnLag,
    Outcome,
    Source,
    Subscriber,
    UnknownGeneration,
)
from trioproxy.upstream import Head, Upstream, UpstreamRequest, request_headers
from trioproxy.web.asking import (
    Asking,
    Cursor,
    Origin,
    query_without_cursor,
    read_asking,
    read_cursor,
    read_linger,
)
from trioproxy.web.connection import ProxyRequest, current_request
from trioproxy.web.failures import Mismatch, respond_to_end, respond_to_gap
from trioproxy.web.responses import name_generation, upstream_response
from trioproxy.web.streaming import StreamBody, stream_headers
from trioproxy.web.voice import api_voice
from trioproxy.wire import Dialect, read_call, with_stream


class Generate:
    """``POST`` on the routes of a dialect."""

    def __init__(self, settings: Settings, hub: Hub, upstream: Upstream) -> None:
        self._settings = settings
        self._hub = hub
        self._upstream = upstream

    async def answer(self, dialect: Dialect) -> Response:
        """Handle one request. What it acquires is on the request's stack when this returns or
        raises."""
        request = current_request()
        body = await request.read_body()
        call = read_call(body)
        streamed = self._streams(dialect) if call.stream is None else call.stream
        if streamed and call.stream is None and not dialect.streams_by_default:
            body = with_stream(body)
        linger = read_linger(request, self._settings.linger)
        return await self.answer_call(dialect, body, streamed=streamed, linger=linger)

    async def answer_call(
        self, dialect: Dialect, body: bytes, *, streamed: bool, linger: float
    ) -> Response:
        """Answer the current request with what the engine answers to ``body``."""
        subscriber, is_new = self.subscribe(dialect, body, streamed=streamed, linger=linger)
        response = await (self._stream(subscriber, dialect) if streamed else _whole(subscriber))
        name_generation(response, subscriber.generation)
        response.headers["X-Cache"] = "miss" if is_new else "join"
        return response

    def subscribe(
        self, dialect: Dialect, body: bytes, *, streamed: bool, linger: float
    ) -> tuple[Subscriber, bool]:
        """Subscribe the current request to what the engine answers to ``body``: to a generation
        that is new (True), or to one that runs or is taken up again."""
        request = current_request()
        asking = read_asking(
            request,
            request.path,
            dialect,
            body,
            streamed=streamed,
            coalesce=self._settings.coalesce,
            mode=request.headers.get("X-Fanout"),
            linger=linger,
        )
        cursor = read_cursor(request)
        if cursor is None:
            subscriber = self._join(request, asking, body)
        else:
            subscriber = self._resume(request, asking, cursor)
        return subscriber, subscriber.generation.origin is asking.origin

    def _streams(self, dialect: Dialect) -> bool:
        """Whether a request that does not say so is streamed."""
        default = self._settings.default_stream
        if default is None:
            default = self._settings.upstream is None
        return dialect.streams_by_default or default

    def _join(self, request: ProxyRequest, asking: Asking, body: bytes) -> Subscriber:
        """Join the running twin or start a generation: no ``await`` from the look-up to the
        stack."""
        return request.exit_stack.enter_context(
            self._hub.join(
                key_to_join(self._hub, asking),
                source_of(
                    self._upstream, request, asking.origin, body, self._settings.upstream_key
                ),
                mode=asking.mode,
                linger=asking.linger,
                on_lag=self._on_lag(asking),
                when_full="trim" if asking.origin.streamed else "fail",
                tenant=asking.tenant,
                origin=asking.origin,
            )
        )

    def _resume(self, request: ProxyRequest, asking: Asking, cursor: Cursor) -> Subscriber:
        if cursor.generation_id is None:
            raise UnknownGeneration("the event id names no generation")
        generation = find_for(self._hub, asking.tenant, cursor.generation_id)
        _check_same(generation, asking)
        return request.exit_stack.enter_context(
            self._hub.subscribe(
                generation.id,
                after=cursor.seq if asking.origin.streamed else None,
                linger=asking.linger,
                on_lag=self._on_lag(asking),
            )
        )

    def _on_lag(self, asking: Asking) -> OnLag:
        # A whole answer is gathered as it comes: nobody can be too slow for it.
        return self._settings.on_lag if asking.origin.streamed else "wait"

    async def _stream(self, subscriber: Subscriber, dialect: Dialect) -> Response:
        """The head, as soon as the upstream's has come; without it, after ``commit_after``
        seconds of silence."""
        generation = subscriber.generation
        with trio.move_on_after(self._settings.commit_after):
            await generation.wait_opened()
        if generation.head is None and generation.outcome is not None:
            return respond_to_end(generation.outcome)
        voice = api_voice(dialect)
        body = StreamBody(subscriber, dialect, voice, heartbeat=self._settings.heartbeat)
        return Response(body, headers=stream_headers(voice.framing))


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


def source_of(
    upstream: Upstream, request: ProxyRequest, origin: Origin, body: bytes, key: str | None
) -> Source:
    """The upstream call that ``request`` asks for. Not made before the core enters it."""
    query = query_without_cursor(request)
    call = UpstreamRequest(
        "POST",
        origin.path.encode() + (b"?" + query if query else b""),
        request_headers(request.header_pairs, key=key),
        body,
    )
    if not origin.streamed:
        return upstream.whole(call)
    return upstream.stream(call, origin.dialect, origin.tally)


def find_for(hub: Hub, tenant: str, generation_id: str) -> Generation:
    """The generation with this id, if it is this tenant's; to everyone else there is none."""
    generation = hub.get(generation_id)
    if generation.tenant != tenant:
        raise UnknownGeneration(f"there is no generation {generation_id}")
    return generation


def key_to_join(hub: Hub, asking: Asking) -> Hashable | None:
    """The key to join or start under; None for a call that nobody else can find.

    A request that did not ask to share leaves a running twin alone. Where a client's own key is in
    use, raises :class:`Mismatch` if for something else, and
    :class:`~trioproxy.fanout.ExpiredGeneration` if its beginning is wanted and no longer held.
    """
    running = hub.find(asking.key)
    if running is None:
        return asking.key
    if not asking.shares:
        return None
    _check_same(running, asking)
    if asking.mode == "replay" and running.transcript.first > 1:
        # It cannot be had from its start any more. A call of its own can; but not under a name that
        # is taken.
        if asking.is_named:
            raise ExpiredGeneration(f"the beginning of {running.id} is no longer held")
        return None
    return asking.key


def _check_same(generation: Generation, asking: Asking) -> None:
    if origin_of(generation).fingerprint != asking.origin.fingerprint:
        raise Mismatch(f"{generation.id} was started by another path, query or body")


def origin_of(generation: Generation) -> Origin:
    """What a generation of ours was started for."""
    assert isinstance(generation.origin, Origin)
    return generation.origin
