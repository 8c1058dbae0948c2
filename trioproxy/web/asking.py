"""What a request asks for: which generation, in which mode, from which event, in whose name."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass

from trioproxy.config import Coalesce
from trioproxy.fanout import Mode
from trioproxy.upstream import CREDENTIALS
from trioproxy.web.connection import ProxyRequest
from trioproxy.wire import BadRequest, Dialect, Tally

DIALECT_HEADERS = (
    "OpenAI-Organization",
    "OpenAI-Project",
    "OpenAI-Beta",
    "Anthropic-Version",
    "Anthropic-Beta",
)
MODES = ("replay", "live", "private")
RESUME_PARAMETER = "last_event_id"
RESUME_FIELD = f"{RESUME_PARAMETER}=".encode()
MAX_LINGER = 3600.0
"""Seconds. Nobody may make an engine generate for nobody for longer."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a generation was started for. ``fingerprint`` tells whether another request asks for
    the same; ``tally`` is what its stream has told so far."""

    path: str
    dialect: Dialect
    streamed: bool
    fingerprint: bytes
    tally: Tally


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader left off: the generation (None: the one that the URL names) and the last
    seq it read."""

    generation_id: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Asking:
    """How a request wants its generation.

    ``key`` is None where it must never be shared, ``is_named`` where the client chose it itself;
    ``shares`` says that one that runs already may answer it.
    """

    tenant: str
    key: Hashable | None
    is_named: bool
    mode: Mode
    shares: bool
    linger: float
    origin: Origin


def tenant_of(request: ProxyRequest) -> str:
    """Whoever holds the same credentials. Nobody else sees, joins or stops what is theirs."""
    digest = hashlib.sha256()
    for name, value in sorted(request.header_pairs):
        if name in CREDENTIALS:
            digest.update(b"%b\0%b\0" % (name, value))
    return digest.hexdigest()


def read_asking(
    request: ProxyRequest,
    path: str,
    dialect: Dialect,
    body: bytes,
    *,
    streamed: bool,
    coalesce: Coalesce,
    mode: str | None,
    linger: float,
) -> Asking:
    """Work out key and mode, of what the request said: ``mode`` is None if it said nothing.

    Raises :class:`~trioproxy.wire.BadRequest`.
    """
    if mode is not None and mode not in MODES:
        raise BadRequest(f"the mode must be one of {', '.join(MODES)}, not {mode!r}", "mode")
    tenant = tenant_of(request)
    own_key = request.headers.get("X-Generation-Key")
    fingerprint = _fingerprint(request, path, body, streamed)
    origin = Origin(path, dialect, streamed, fingerprint, Tally(dialect))
    asked_to_share = mode in ("replay", "live") or own_key is not None
    key = None
    if coalesce != "off" and mode != "private":
        key = (tenant, origin.fingerprint if own_key is None else own_key)
    if mode is None or (mode == "live" and not streamed):
        mode = "replay"  # an answer is worth something only if it is read from its start
    return Asking(
        tenant=tenant,
        key=key,
        is_named=own_key is not None,
        mode=mode,
        shares=coalesce == "identical" or (coalesce == "explicit" and asked_to_share),
        linger=linger,
        origin=origin,
    )


def query_without_cursor(request: ProxyRequest) -> bytes:
    """The query to send upstream: all of it as it came, but what spoke to the proxy."""
    query: bytes = request.scope["query_string"]
    fields = [field for field in query.split(b"&") if not field.startswith(RESUME_FIELD)]
    return b"&".join(fields)


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


def _fingerprint(request: ProxyRequest, path: str, body: bytes, streamed: bool) -> bytes:
    digest = hashlib.sha256()
    parts = [path.encode(), query_without_cursor(request), b"stream" if streamed else b"whole"]
    parts += [
        request.headers.get(name, "").encode("latin-1", "replace") for name in DIALECT_HEADERS
    ]
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
