"""What may travel on: the header rules of an intermediary (RFC 9110 section 7.6.1), and ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trioproxy.upstream.request import HeaderPairs, tells_of_call
from trioproxy.wire import CREDENTIALS

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""They describe one connection, not the message."""

OWN_HEADERS = frozenset(
    {b"x-fanout", b"x-generation-key", b"x-linger", b"x-timing", b"last-event-id"}
)
"""They speak to this proxy. What they ask for has been done when the upstream is called."""

TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})
"""W3C Trace Context (https://www.w3.org/TR/trace-context/). They travel apart: who traces the call
puts its own in their place."""

MAX_TRACE_LENGTH = 512

NOT_REQUESTED = frozenset(
    {
        b"host",  # the upstream's own, set by the call
        b"content-length",  # likewise
        b"expect",  # the body is here already
        b"cookie",  # belongs to the proxy's origin
        b"accept-encoding",  # a compressed stream holds tokens back
        # llama.cpp lets a conversation survive its client's disconnect: it would generate for
        # nobody
        b"x-conversation-id",
        # where the client is: it may say what it likes, and the engine has no use for it
        b"forwarded",
        b"x-real-ip",
        # what a browser says of its page: who may come from where is decided here
        b"origin",
        b"referer",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-fetch-user",
    }
)
NOT_ANSWERED = frozenset({b"content-length", b"set-cookie", b"date", b"server"})
"""Set anew by our server, or meant for one client while the answer may go to many."""

FORWARDED_PREFIX = b"x-forwarded-"
"""The older form of ``Forwarded`` (RFC 7239)."""

CORS_PREFIX = b"access-control-"
"""What an engine lets pages of other origins do was meant for its own address."""


def request_headers(
    headers: Iterable[tuple[bytes, bytes]],
    *,
    key: str | None = None,
    forward_credentials: bool,
    added: HeaderPairs | None = None,
) -> HeaderPairs:
    """The headers to send upstream, names in lower case. ``key`` takes the place of the client's
    credentials, in the form in which the API of the request has them; where those were meant for
    this proxy, they are not forwarded in any case. Those ``added`` take the place of the client's
    of the same names."""
    headers, added = list(headers), added or []
    dropped = NOT_REQUESTED | OWN_HEADERS | TRACE_HEADERS
    names = {name for name, _ in added}
    if key is not None or not forward_credentials or names & CREDENTIALS:
        dropped |= CREDENTIALS
    dropped |= names
    kept = [
        pair
        for pair in _end_to_end(headers)
        if pair[0] not in dropped and not pair[0].startswith(FORWARDED_PREFIX)
    ]
    kept.append((b"accept-encoding", b"identity"))
    if key is not None:
        kept.append(_credential(headers, key.encode()))
    return kept + added


def trace_context(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The trace that a request is a part of, if it is of one, to go on with a call. Values that are
    longer than anybody has to pass on (W3C Trace Context, section 3.3.1.5) are left out."""
    values: dict[str, list[bytes]] = {"traceparent": [], "tracestate": []}
    for name, value in _end_to_end(headers):
        if name in TRACE_HEADERS:
            values[name.decode()].append(value)
    context = {name: b",".join(each).decode("latin-1") for name, each in values.items() if each}
    if "traceparent" not in context:
        return {}
    return {name: value for name, value in context.items() if len(value) <= MAX_TRACE_LENGTH}


def _credential(headers: HeaderPairs, key: bytes) -> tuple[bytes, bytes]:
    names = {name.lower() for name, _ in headers}
    if b"authorization" not in names:
        for name in (b"x-api-key", b"api-key", b"x-goog-api-key"):
            if name in names:
                return name, key
        if b"anthropic-version" in names:  # which every request of that API must have
            return b"x-api-key", key
    return b"authorization", b"Bearer " + key


def answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> HeaderPairs:
    """The headers of an upstream's answer that may reach a client."""
    return [
        pair
        for pair in _end_to_end(headers)
        if pair[0] not in NOT_ANSWERED and not pair[0].startswith(CORS_PREFIX)
    ]


def passed_back(headers: Iterable[tuple[bytes, bytes]]) -> HeaderPairs:
    """Of an upstream's answer, what tells of the call where the answer's own form is another."""
    return [pair for pair in answer_headers(headers) if tells_of_call(pair[0])]


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    pairs = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in pairs
        if name == b"connection"
        for token in value.split(b",")
    }
    for name, value in pairs:
        if name not in HOP_BY_HOP and name not in named:
            yield name, value
