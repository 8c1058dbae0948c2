"""Generations as resources: list, look, create without reading, read, stop."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import msgspec
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.config import Settings
from trioproxy.fanout import Generation, Mode
from trioproxy.telemetry import describe_timing, summarize_timing, timing_of
from trioproxy.web.asking import (
    asked_dialect,
    body_to_stream,
    check_linger,
    read_asking,
    read_cursor,
)
from trioproxy.web.calls import Calls, origin_of
from trioproxy.web.connection import ProxyRequest, current_request
from trioproxy.web.failures import Mismatch
from trioproxy.web.responses import json_response, name_generation
from trioproxy.web.streaming import Streams, head_of_stream
from trioproxy.web.voice import RESOURCE_VOICE
from trioproxy.wire import BadRequest, Tally, Usage


class Creation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /v1/generations``. ``linger`` is in seconds, ``body`` goes upstream as
    it is."""

    path: str
    body: msgspec.Raw
    linger: float | None = None
    mode: Mode | None = None


class Generations:
    """``/v1/generations`` and what lies below it. A tenant sees its own, an operator all."""

    def __init__(self, settings: Settings, calls: Calls, streams: Streams) -> None:
        self._settings = settings
        self._calls = calls
        self._streams = streams

    async def list(self) -> Response:
        """All that run, then all that are retained, each oldest first; those of this node, or
        (``?scope=cluster``) of all."""
        request = current_request()
        caller, listing = request.caller, {"object": "list"}
        if is_of_cluster(request) and (told := await self._calls.survey(caller)) is not None:
            return json_response(
                {
                    **listing,
                    "data": told.rows,
                    "node": self._calls.node,
                    "nodes": told.nodes,
                    "missing": told.missing,
                    "truncated": told.truncated,
                }
            )
        data = [describe(generation) for generation in self._calls.all_of(caller)]
        named = {} if self._calls.node is None else {"node": self._calls.node}
        return json_response(listing | {"data": data} | named)

    async def create(self) -> Response:
        """Start a generation that nobody reads yet, or find the one that runs: 201, and where it
        is."""
        request = current_request()
        creation = _read_creation(await request.read_body())
        dialect = asked_dialect(creation.path)
        body = body_to_stream(bytes(creation.body), dialect)
        linger = creation.linger
        caller = request.caller
        asking = read_asking(
            caller,
            creation.path,
            dialect,
            body,
            streamed=True,
            coalesce=self._settings.coalesce,
            mode=creation.mode,
            own_key=request.headers.get("X-Generation-Key"),
            linger=self._settings.create_linger if linger is None else check_linger(linger),
            accepted_at=request.accepted_at,
        )
        async with self._calls.place(asking, body, is_read=False) as placed:
            generation = self._calls.start(caller, asking, body, placed)
        response = json_response(describe(generation), 201)
        response.headers["Location"] = f"/v1/generations/{generation.id}"
        return response

    async def show(self, generation_id: str) -> Response:
        """How it is, with its readers at this node; or, where another node runs it or with
        ``?scope=cluster``, at all nodes."""
        request = current_request()
        wide = is_of_cluster(request)
        told = await self._calls.describe(request.caller, generation_id, wide=wide)
        if told is not None:
            return json_response(told)
        async with self._reach(generation_id) as generation:
            return json_response(describe(generation))

    async def timing(self, generation_id: str) -> Response:
        """When each of its tokens came, and how each of its readers fared, at the node that runs
        it."""
        told = await self._calls.tell_timing(current_request().caller, generation_id)
        if told is not None:
            return Response(told, content_type="application/json")
        async with self._reach(generation_id) as generation:
            return json_response(describe_timing(timing_of(generation)))

    async def stop(self, generation_id: str) -> Response:
        """End it for everyone. One that has ended is left as it is."""
        async with self._reach(generation_id, up_to_now=True) as generation:  # it may have ended
            self._calls.stop(generation)
            return json_response(describe(generation))

    async def events(self, generation_id: str) -> Response:
        """Read it: from the start, from an event on, or (``?mode=live``) from now on."""
        request = current_request()
        after, mode = _read_after(request, generation_id), _read_mode(request)
        is_live = mode == "live" and after is None
        async with self._reach(generation_id, after, up_to_now=is_live) as generation:
            if is_live:
                after = generation.transcript.last
            if has_been_told_the_end(generation, after):
                response = Response(b"", 204)  # on which an EventSource reconnects no more
                del response.headers["Content-Type"], response.headers["Content-Length"]
            elif request.method == "HEAD":
                response = head_of_stream(RESOURCE_VOICE.framing)
            else:
                async with self._calls.seat(generation.tenant):
                    subscriber = request.exit_stack.enter_context(
                        self._calls.read(generation, after=after, mode=mode)
                    )
                dialect = origin_of(generation).dialect
                response = self._streams.respond(request, subscriber, dialect, RESOURCE_VOICE)
        name_generation(response, generation)
        return response

    def _reach(
        self, generation_id: str, after: int | None = None, *, up_to_now: bool = False
    ) -> AbstractAsyncContextManager[Generation]:
        caller = current_request().caller
        return self._calls.reach(caller, generation_id, after=after, up_to_now=up_to_now)


def describe(generation: Generation) -> dict[str, object]:
    """A generation as JSON. Times are seconds since the epoch."""
    outcome, origin = generation.outcome, origin_of(generation)
    return {
        "object": "generation",
        "id": generation.id,
        "state": "running" if outcome is None else "ended",
        "outcome": outcome and {"kind": outcome.kind, "reason": outcome.reason},
        "path": origin.path,
        **summarize_timing(timing_of(generation)),
        "mode": generation.mode,
        "subscribers": generation.readers,
        "events": generation.transcript.last,
        "bytes": generation.transcript.position,
        "usage": describe_usage(origin.tally) if origin.streamed else None,
        "created_at": generation.created_at,
        "first_event_at": generation.first_event_at,
        "ended_at": generation.ended_at,
    }


def describe_usage(tally: Tally) -> dict[str, object]:
    """The tokens of a stream as far as it has come: the engine's own count, or an estimate of what
    it has not told, which is one for each event with text."""
    told = tally.usage or Usage()
    is_estimate = told.completion_tokens is None
    return {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": tally.text_events if is_estimate else told.completion_tokens,
        "estimated": is_estimate,
    }


def has_been_told_the_end(generation: Generation, after: int | None) -> bool:
    """Whether a reader who comes back after event ``after`` has nothing more to read: neither
    events nor how it ended."""
    outcome, last = generation.outcome, generation.transcript.last
    if outcome is None or after is None:
        return False
    if outcome.kind == "completed" or outcome.told:
        return after in (last, last + 1)
    return after == last + 1  # the id of the frame that told it


def _read_creation(body: bytes) -> Creation:
    try:
        return msgspec.json.decode(body, type=Creation)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None


def _read_after(request: ProxyRequest, generation_id: str) -> int | None:
    cursor = read_cursor(request)
    if cursor is None:
        return None
    if cursor.generation_id not in (None, generation_id):
        raise Mismatch(f"the event id belongs to another generation than {generation_id}")
    return cursor.seq


def is_of_cluster(request: ProxyRequest) -> bool:
    """Whether what all nodes have is asked for. Raises :class:`BadRequest`."""
    scope = request.args.get("scope", "node")
    if scope not in ("node", "cluster"):
        raise BadRequest(f"the scope must be node or cluster, not {scope!r}", "scope")
    return scope == "cluster"


def _read_mode(request: ProxyRequest) -> Mode:
    mode = request.args.get("mode", "replay")
    if mode == "replay":
        return "replay"
    if mode == "live":
        return "live"
    raise BadRequest(f"the mode of a reader must be replay or live, not {mode!r}", "mode")
