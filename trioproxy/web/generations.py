"""Generations as resources: list, look, create without reading, read, stop."""

from __future__ import annotations

import msgspec
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.config import Settings
from trioproxy.fanout import Generation, Hub, Mode
from trioproxy.upstream import Upstream
from trioproxy.web.asking import check_linger, read_asking, read_cursor, tenant_of
from trioproxy.web.connection import ProxyRequest, current_request
from trioproxy.web.failures import Mismatch
from trioproxy.web.generate import find_for, key_to_join, origin_of, source_of
from trioproxy.web.responses import json_response, name_generation
from trioproxy.web.streaming import StreamBody, stream_headers
from trioproxy.web.voice import RESOURCE_VOICE
from trioproxy.wire import BadRequest, Tally, Usage, dialect_for, read_call, with_stream


class Creation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /v1/generations``. ``linger`` is in seconds, ``body`` goes upstream as
    it is."""

    path: str
    body: msgspec.Raw
    linger: float | None = None
    mode: Mode | None = None


class Generations:
    """``/v1/generations`` and what lies below it. A tenant sees its own."""

    def __init__(self, settings: Settings, hub: Hub, upstream: Upstream) -> None:
        self._settings = settings
        self._hub = hub
        self._upstream = upstream

    async def list(self) -> Response:
        """All that run, then all that are retained, each oldest first."""
        tenant = tenant_of(current_request())
        generations = [*self._hub.running, *self._hub.retained]
        data = [describe(generation) for generation in generations if generation.tenant == tenant]
        return json_response({"object": "list", "data": data})

    async def create(self) -> Response:
        """Start a generation that nobody reads yet, or find the one that runs: 201, and where it
        is."""
        request = current_request()
        creation = _read_creation(await request.read_body())
        dialect = dialect_for(creation.path)
        if dialect is None:
            raise BadRequest(f"no generation can be asked for on {creation.path!r}", "path")
        body = bytes(creation.body)
        call = read_call(body)
        if call.stream is None:
            body = with_stream(body)
        elif not call.stream:
            raise BadRequest("a generation that is read later must stream", "body.stream")
        linger = creation.linger
        asking = read_asking(
            request,
            creation.path,
            dialect,
            body,
            streamed=True,
            coalesce=self._settings.coalesce,
            mode=creation.mode,
            linger=self._settings.create_linger if linger is None else check_linger(linger),
        )
        generation = self._hub.start(
            key_to_join(self._hub, asking),
            source_of(self._upstream, request, asking.origin, body, self._settings.upstream_key),
            mode=asking.mode,
            linger=asking.linger,
            tenant=asking.tenant,
            origin=asking.origin,
        )
        response = json_response(describe(generation), 201)
        response.headers["Location"] = f"/v1/generations/{generation.id}"
        return response

    async def show(self, generation_id: str) -> Response:
        return json_response(
            describe(find_for(self._hub, tenant_of(current_request()), generation_id))
        )

    async def stop(self, generation_id: str) -> Response:
        """End it for everyone. One that has ended is left as it is."""
        generation = find_for(self._hub, tenant_of(current_request()), generation_id)
        generation.cancel("stopped")
        return json_response(describe(generation))

    async def events(self, generation_id: str) -> Response:
        """Read it: from the start, from an event on, or (``?mode=live``) from now on."""
        request = current_request()
        generation = find_for(self._hub, tenant_of(request), generation_id)
        if not origin_of(generation).streamed:
            raise Mismatch(f"{generation.id} is no stream of events: its answer comes whole")
        after, mode = _read_after(request, generation), _read_mode(request)
        headers = stream_headers(RESOURCE_VOICE.framing)
        if has_been_told_the_end(generation, after):
            response = Response(b"", 204)  # on which an EventSource reconnects no more
            del response.headers["Content-Type"], response.headers["Content-Length"]
        elif request.method == "HEAD":
            response = Response(b"", headers=headers)
            del response.headers["Content-Length"]  # the stream has none
        else:
            subscriber = request.exit_stack.enter_context(
                self._hub.subscribe(
                    generation.id, after=after, mode=mode, on_lag=self._settings.on_lag
                )
            )
            body = StreamBody(
                subscriber,
                origin_of(generation).dialect,
                RESOURCE_VOICE,
                heartbeat=self._settings.heartbeat,
            )
            response = Response(body, headers=headers)
        name_generation(response, generation)
        return response


def describe(generation: Generation) -> dict[str, object]:
    """A generation as JSON. Times are seconds since the epoch."""
    outcome, origin = generation.outcome, origin_of(generation)
    return {
        "object": "generation",
        "id": generation.id,
        "state": "running" if outcome is None else "ended",
        "outcome": outcome and {"kind": outcome.kind, "reason": outcome.reason},
        "path": origin.path,
        "mode": generation.mode,
        "subscribers": len(generation.subscribers),
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


def _read_after(request: ProxyRequest, generation: Generation) -> int | None:
    cursor = read_cursor(request)
    if cursor is None:
        return None
    if cursor.generation_id not in (None, generation.id):
        raise Mismatch(f"the event id belongs to another generation than {generation.id}")
    return cursor.seq


def _read_mode(request: ProxyRequest) -> Mode:
    mode = request.args.get("mode", "replay")
    if mode == "replay":
        return "replay"
    if mode == "live":
        return "live"
    raise BadRequest(f"the mode of a reader must be replay or live, not {mode!r}", "mode")
