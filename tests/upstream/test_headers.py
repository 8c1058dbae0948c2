"""Which headers travel on: the rules of an intermediary, and the proxy's own."""

from __future__ import annotations

import pytest

from trioproxy.upstream import answer_headers, trace_context
from trioproxy.upstream.headers import OWN_HEADERS, request_headers

Pairs = list[tuple[bytes, bytes]]

IDENTITY = (b"accept-encoding", b"identity")
KEY = (b"authorization", b"Bearer sk-upstream")

HOP_BY_HOP = [
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Authenticate",
    b"Proxy-Authorization",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
    b"Transfer-Encoding",
    b"Upgrade",
]

END_TO_END: dict[str, tuple[Pairs, Pairs]] = {
    "none": ([], []),
    "names in lower case, values as they are": (
        [(b"X-Request-ID", b"AbC, d;e=\xff")],
        [(b"x-request-id", b"AbC, d;e=\xff")],
    ),
    "order and duplicates are kept": (
        [(b"X-A", b"1"), (b"X-B", b"2"), (b"x-a", b"3"), (b"X-A", b"1")],
        [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"x-a", b"1")],
    ),
    "those that Connection names": (
        [(b"X-Hop", b"1"), (b"Connection", b"close, X-HOP ,x-other"), (b"X-Other", b"2")],
        [],
    ),
    "those that a second Connection names": (
        [(b"connection", b"keep-alive"), (b"CONNECTION", b"x-hop"), (b"x-hop", b"1")],
        [],
    ),
    "a token is a whole name": (
        [(b"Connection", b"x"), (b"X-A", b"1"), (b"x", b"2")],
        [(b"x-a", b"1")],
    ),
    "an empty Connection": ([(b"Connection", b""), (b"X-A", b"1")], [(b"x-a", b"1")]),
    "every one of a hop": ([(name, b"1") for name in HOP_BY_HOP], []),
}


@pytest.mark.parametrize(("headers", "expected"), END_TO_END.values(), ids=END_TO_END.keys())
def test_headers_of_one_connection_travel_in_neither_direction(
    headers: Pairs, expected: Pairs
) -> None:
    assert [*expected, IDENTITY] == request_headers(headers, forward_credentials=True)
    assert expected == answer_headers(headers)


@pytest.mark.parametrize(
    "name",
    [
        *sorted(OWN_HEADERS),
        b"Host",
        b"Content-Length",
        b"Expect",
        b"Cookie",
        b"Accept-Encoding",
        b"X-Conversation-Id",
        b"Forwarded",
        b"X-Real-IP",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Anything",
    ],
)
def test_headers_that_are_not_the_engines_business_are_not_sent(name: bytes) -> None:
    headers = [(name, b"1"), (name.title(), b"2"), (b"accept", b"text/event-stream")]

    assert request_headers(headers, forward_credentials=True) == [
        (b"accept", b"text/event-stream"),
        IDENTITY,
    ]


def test_own_headers_are_those_that_speak_to_the_proxy() -> None:
    named = b"x-fanout x-generation-key x-linger x-timing last-event-id"
    assert set(named.split()) == OWN_HEADERS


@pytest.mark.parametrize("name", [b"Content-Length", b"Set-Cookie", b"Date", b"Server"])
def test_headers_that_are_set_anew_are_not_answered(name: bytes) -> None:
    headers = [(name, b"1"), (b"Content-Type", b"application/json")]

    assert answer_headers(headers) == [(b"content-type", b"application/json")]


@pytest.mark.parametrize(
    "accepted", [[], [b"gzip"], [b"identity"], [b"gzip", b"br"], [b"identity", b"identity"]]
)
def test_an_uncompressed_answer_is_asked_for_exactly_once(accepted: list[bytes]) -> None:
    headers = request_headers(
        [(b"Accept-Encoding", coding) for coding in accepted], forward_credentials=True
    )

    assert headers == [IDENTITY]


CREDENTIALS: dict[str, tuple[Pairs, str | None, Pairs]] = {
    "the client's, where the upstream has no key": (
        [(b"Authorization", b"Bearer sk-client"), (b"X-Api-Key", b"sk-other")],
        None,
        [(b"authorization", b"Bearer sk-client"), (b"x-api-key", b"sk-other"), IDENTITY],
    ),
    "the upstream's key in place of the client's": (
        [(b"AUTHORIZATION", b"Bearer sk-client"), (b"X-Api-Key", b"sk-other"), (b"x-a", b"1")],
        "sk-upstream",
        [(b"x-a", b"1"), IDENTITY, KEY],
    ),
    "the upstream's key once, whatever the client repeats": (
        [(b"authorization", b"1"), (b"Authorization", b"2")],
        "sk-upstream",
        [IDENTITY, KEY],
    ),
    "the upstream's key where the client has none": ([], "sk-upstream", [IDENTITY, KEY]),
    "the upstream's key, although the client names it as of one hop": (
        [(b"Connection", b"authorization, accept-encoding")],
        "sk-upstream",
        [IDENTITY, KEY],
    ),
}


@pytest.mark.parametrize(
    ("headers", "key", "expected"), CREDENTIALS.values(), ids=CREDENTIALS.keys()
)
def test_credentials_are_the_upstreams_or_else_the_clients(
    headers: Pairs, key: str | None, expected: Pairs
) -> None:
    assert expected == request_headers(headers, key=key, forward_credentials=True)


PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LONGEST = b"a=" + 510 * b"b"


@pytest.mark.parametrize(
    ("headers", "context"),
    [
        ([], {}),
        ([(b"traceparent", PARENT)], {"traceparent": PARENT.decode()}),
        (
            [(b"tracestate", b"a=1"), (b"traceparent", PARENT), (b"tracestate", b"b=2")],
            {"traceparent": PARENT.decode(), "tracestate": "a=1,b=2"},
        ),
        ([(b"tracestate", b"a=1")], {}),
        (
            [(b"traceparent", PARENT), (b"tracestate", LONGEST)],
            {"traceparent": PARENT.decode(), "tracestate": LONGEST.decode()},
        ),
        (
            [(b"traceparent", PARENT), (b"tracestate", LONGEST + b"b")],
            {"traceparent": PARENT.decode()},
        ),
        ([(b"connection", b"traceparent"), (b"traceparent", PARENT)], {}),
    ],
)
def test_the_trace_goes_on_apart_from_the_headers(headers: Pairs, context: dict[str, str]) -> None:
    assert trace_context(headers) == context
    assert not {name for name, _ in request_headers(headers, forward_credentials=True)} & {
        b"traceparent",
        b"tracestate",
    }


@pytest.mark.parametrize("name", [b"Authorization", b"X-Api-Key", b"Api-Key", b"X-Goog-Api-Key"])
@pytest.mark.parametrize("key", [None, "sk-upstream"])
def test_keys_of_this_proxy_go_no_further(name: bytes, key: str | None) -> None:
    sent = request_headers([(name, b"tp-alice")], key=key, forward_credentials=False)

    assert b"tp-alice" not in dict(sent).values()
    assert (b"sk-upstream" in b" ".join(dict(sent).values())) == (key is not None)


@pytest.mark.parametrize("key", [None, "sk-upstream"])
def test_headers_of_the_operators_take_the_place_of_the_clients(key: str | None) -> None:
    sent = [(b"X-Team", b"mine"), (b"X-Api-Key", b"mine"), (b"x-other", b"1")]
    added = [(b"x-team", b"theirs")]

    headers = request_headers(sent, key=key, forward_credentials=True, added=added)

    credential = [(b"x-api-key", b"mine" if key is None else key.encode())]
    assert sorted(headers) == sorted([(b"x-other", b"1"), IDENTITY, *added, *credential])


def test_a_credential_among_them_is_the_only_one() -> None:
    added = [(b"authorization", b"Basic theirs")]

    headers = request_headers([(b"X-Api-Key", b"mine")], forward_credentials=True, added=added)

    assert headers == [IDENTITY, *added]
