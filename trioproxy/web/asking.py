"""What a request asks for: which generation, in which mode, from which event, in whose name."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass

from trioproxy.config import Coalesce
from trioproxy.fanout import Mode
from trioproxy.upstream import trace_context
from trioproxy.web.caller import RESUME_PARAMETER, Caller
from trioproxy.web.connection import ProxyRequest
from trioproxy.wire import (
    OPENAI_RESPONSES,
    BadRequest,
    Dialect,
    Tally,
    dialect_for,
    in_foreground,
    read_call,
    wants_background,
    with_stream,
)

DIALECT_HEADERS = (
    b"openai-organization",
    b"openai-project",
    b"openai-beta",
    b"anthropic-version",
    b"anthropic-beta",
)
MODES = ("replay", "live", "private")
MAX_LINGER = 3600.0
"""Seconds. Nobody may make an engine generate for nobody for longer."""


MAX_MODEL_LENGTH = 100
"""So much is remembered of a model's name: to clients it is a string like any, and may be long."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a generation was started for. ``fingerprint`` tells whether another request asks for
    the same; ``tally`` is what its stream has told so far, ``accepted_at`` when the request came,
    in trio's time; ``trace_context`` is that of the client (W3C Trace Context), until one that
    traces the call has taken its place; ``is_replay`` says that an answer that was kept is what it
    reads, ``is_replica`` that it reads what another node does."""

    path: str
    dialect: Dialect
    model: str | None
    streamed: bool
    fingerprint: bytes
    tally: Tally
    accepted_at: float
    trace_context: dict[str, str]
    is_replay: bool = False
    is_replica: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader left off: the generation (None: the one that the URL names) and the last
    seq it read."""

    generation_id: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Asking:
    """How a request wants its generation.

    ``model`` is the one that it names, in full. ``key`` is None where it must never be shared,
    ``is_named`` where the client chose it itself; ``shares`` says that one that runs already may
    answer it, ``may_replay`` that an answer that was kept may, and ``may_keep`` that its own may be
    kept.
    """

    tenant: str
    model: str | None
    key: Hashable | None
    is_named: bool
    mode: Mode
    shares: bool
    may_replay: bool
    may_keep: bool
    linger: float
    origin: Origin


def body_to_stream(body: bytes, dialect: Dialect) -> bytes:
    """The body of a call whose answer is read apart from the request for it, and so must stream.

    Raises :class:`~trioproxy.wire.BadRequest` where it says that it does not.
    """
    call = read_call(body)
    if dialect is OPENAI_RESPONSES and wants_background(body):
        return in_foreground(body)  # what is read apart is in the background as it is
    if call.stream is None:
        return body if dialect.streams_by_default else with_stream(body)
    if not call.stream:
        raise BadRequest("a generation that is read later must stream", "body.stream")
    return body


def asked_dialect(path: str) -> Dialect:
    """The dialect of a path that a message names. Raises :class:`~trioproxy.wire.BadRequest`."""
    dialect = dialect_for(path)
    if dialect is None:
        raise BadRequest(f"no generation can be asked for on {path!r}", "path")
    return dialect


def read_asking(
    caller: Caller,
    path: str,
    dialect: Dialect,
    body: bytes,
    *,
    streamed: bool,
    coalesce: Coalesce,
    mode: str | None,
    own_key: str | None,
    linger: float,
    accepted_at: float,
) -> Asking:
    """Work out key and mode, of what the caller said: ``mode`` and ``own_key`` are None if it said
    nothing of them.

    Raises :class:`~trioproxy.wire.BadRequest`.
    """
    if mode is not None and mode not in MODES:
        raise BadRequest(f"the mode must be one of {', '.join(MODES)}, not {mode!r}", "mode")
    model = read_call(body).model
    fingerprint = _fingerprint(caller, path, body, streamed)
    origin = Origin(
        path,
        dialect,
        model and model[:MAX_MODEL_LENGTH],
        streamed,
        fingerprint,
        Tally(dialect),
        accepted_at,
        trace_context(caller.headers),
    )
    asked_to_share = mode in ("replay", "live") or own_key is not None
    key = None
    if coalesce != "off" and mode != "private":
        key = (caller.tenant, origin.fingerprint if own_key is None else _named(own_key))
    wanted = _cache_directives(caller)
    is_own = mode == "private" or own_key is not None  # a generation that is wanted for itself
    may_keep = not is_own and "no-store" not in wanted
    if mode is None or (mode == "live" and not streamed):
        mode = "replay"  # an answer is worth something only if it is read from its start
    return Asking(
        tenant=caller.tenant,
        model=model,
        key=key,
        is_named=own_key is not None,
        mode=mode,
        shares=coalesce == "identical" or (coalesce == "explicit" and asked_to_share),
        may_replay=may_keep and "no-cache" not in wanted,
        may_keep=may_keep,
        linger=linger,
        origin=origin,
    )


def _cache_directives(caller: Caller) -> set[str]:
    """What the request says of caches (RFC 9111, section 5.2.1)."""
    told = caller.header(b"cache-control").decode("latin-1").lower()
    return {directive.strip() for directive in told.split(",")}


def read_cursor(request: ProxyRequest) -> Cursor | None:
    """Where to resume: ``Last-Event-ID`` (WHATWG HTML, 9.2.3), or ``?last_event_id=``; None if
    neither is there.

    An id reads ``<generation id>:<seq>``; a bare ``<seq>`` is meant for the generation that the URL
    names. Raises :class:`~trioproxy.wire.BadRequest`.
    """
    text = request.headers.get("Last-Event-ID") or request.args.get(RESUME_PARAMETER)
    if not text:
        return None
    generation_id, _, seq = text.rpartition(":")
    if not (seq.isascii() and seq.isdecimal() and len(seq) < 16):
        raise BadRequest(f"{text!r} is not an event id of this proxy", "Last-Event-ID")
    return Cursor(generation_id or None, int(seq))


def _named(own_key: str) -> bytes:
    """A client's own key, in a size that can be kept: never the fingerprint of a request."""
    return hashlib.sha256(b"named" + own_key.encode("utf-8", "surrogatepass")).digest()


def _fingerprint(caller: Caller, path: str, body: bytes, streamed: bool) -> bytes:
    digest = hashlib.sha256()
    parts = [path.encode(), caller.query, b"stream" if streamed else b"whole"]
    parts += [caller.header(name) for name in DIALECT_HEADERS]
    for part in (*parts, body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def read_linger(request: ProxyRequest, default: float) -> float:
    """How long, in seconds, the request wants its generation to linger. Raises
    :class:`~trioproxy.wire.BadRequest`."""
    text = request.headers.get("X-Linger")
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        raise BadRequest("X-Linger must be a number of seconds", "X-Linger") from None
    return check_linger(seconds)


def check_linger(seconds: float) -> float:
    """``seconds`` itself. Raises :class:`~trioproxy.wire.BadRequest` where nobody should linger
    so long."""
    if not (math.isfinite(seconds) and 0 <= seconds <= MAX_LINGER):
        raise BadRequest(f"a linger must be between 0 and {MAX_LINGER:.0f} seconds", "linger")
    return seconds
