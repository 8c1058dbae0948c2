"""The request that reaches the engine: the client's own, less what is not for the engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rawhttp import open_client
from tests.web.service import CHAT, COMPLETIONS, open_scripted, open_service, open_simulated
from trioproxy.simulator import Call
from trioproxy.testing.upstream import UpstreamCall, open_upstream, sse

ODD_BUT_VALID = b'{ "prompt" :"The\\u0020river", "max_tokens":2,"stream" : true ,"x":1e2 }\n'

WHOLE, STREAMED = b'{"prompt":"a"}', b'{"prompt":"a","stream":true}'


@pytest.mark.parametrize("target", [COMPLETIONS, f"{COMPLETIONS}?a=%20b&c", f"{CHAT}?%3d="])
async def test_a_call_reaches_the_engine_as_the_client_made_it(target: str) -> None:
    async with open_simulated() as service, open_client(service.url) as client:
        await client.request("POST", target, body=ODD_BUT_VALID)
        await client.response_head()

        call = only(service.engine.calls)

    path, _, query = target.partition("?")
    assert ("POST", path, query, ODD_BUT_VALID) == (call.method, call.path, call.query, call.body)


@pytest.mark.parametrize(
    ("default_stream", "body", "streams", "sent"),
    [
        (True, b'{"prompt":"a"}', True, b'{"prompt":"a","stream":true}'),
        (
            True,
            b'{"prompt":"a","stream":null}',
            True,
            b'{"prompt":"a","stream":null,"stream":true}',
        ),
        (True, b'{"prompt":"a","stream":false}', False, None),
        (True, b'{"prompt":"a","stream":true}', True, None),
        (False, b'{"prompt":"a"}', False, None),
        (False, b'{"prompt":"a","stream":null}', False, None),
        (False, b'{"prompt":"a","stream":false}', False, None),
        (False, b'{"prompt":"a","stream":true}', True, None),
        (None, b'{"prompt":"a"}', False, None),
        (None, b'{"prompt":"a","stream":true}', True, None),
    ],
)
async def test_only_a_call_that_does_not_say_whether_it_streams_is_told_so(
    default_stream: bool | None, body: bytes, streams: bool, sent: bytes | None
) -> None:
    async with open_simulated(default_stream=default_stream) as service:
        response = await service.http.post(COMPLETIONS, content=body)

        call = only(service.engine.calls)

    media_type = "text/event-stream; charset=utf-8" if streams else "application/json"
    assert media_type == response.headers["content-type"]
    assert (sent or body) == call.body


async def test_a_call_to_the_proxys_own_simulated_engine_streams_unless_it_says_no() -> None:
    async with open_simulated(upstream=None) as service:
        response = await service.http.post(COMPLETIONS, content=b'{"prompt":"a"}')

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "x-api-key",
        "openai-organization",
        "openai-project",
        "user-agent",
        "x-request-id",
        "x-stainless-retry-count",
        "traceparent",
        "content-type",
        "accept",
    ],
)
async def test_a_header_that_is_for_the_engine_reaches_it(name: str) -> None:
    call = await call_made_with({name: "some value"})

    assert values_of(call, name) == [b"some value"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cookie", "session=1"),
        ("x-conversation-id", "c1"),
        ("x-fanout", "replay"),
        ("x-generation-key", "k"),
        ("x-linger", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic eDp5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
    ],
)
async def test_a_header_that_is_not_for_the_engine_does_not_reach_it(name: str, value: str) -> None:
    call = await call_made_with({name: value})

    assert values_of(call, name) == []


async def test_headers_named_in_connection_do_not_reach_the_engine() -> None:
    call = await call_made_with({"connection": "x-one, X-Two", "x-one": "1", "x-two": "2"})

    assert (values_of(call, "x-one"), values_of(call, "x-two")) == ([], [])
    assert b"x-one" not in b"".join(values_of(call, "connection"))


async def test_the_engine_is_asked_for_an_uncompressed_answer_under_its_own_name() -> None:
    headers = {"accept-encoding": "gzip, br", "host": "proxy.localhost"}
    async with open_scripted() as service, service.ask(STREAMED, headers=headers):
        call = await service.upstream.next_call()

    assert values_of(call, "accept-encoding") == [b"identity"]
    assert values_of(call, "host") == [service.upstream.url.removeprefix("http://").encode()]
    assert values_of(call, "content-length") == [str(len(STREAMED)).encode()]


async def test_a_body_in_chunks_reaches_the_engine_with_its_length() -> None:
    async with open_scripted() as service, open_client(service.url) as client:
        half = len(STREAMED) // 2
        await client.send(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
            + b"".join(
                b"%x\r\n%b\r\n" % (len(part), part) for part in (STREAMED[:half], STREAMED[half:])
            )
            + b"0\r\n\r\n"
        )
        call = await service.upstream.next_call()

    assert call.body == STREAMED
    assert values_of(call, "transfer-encoding") == []
    assert [str(len(STREAMED)).encode()] == values_of(call, "content-length")


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"authorization": "Bearer client"},
        {"x-api-key": "client", "authorization": "Basic eDp5"},
    ],
)
async def test_the_upstream_key_takes_the_place_of_all_credentials(
    credentials: dict[str, str],
) -> None:
    call = await call_made_with(credentials, upstream_key="of the operator")

    assert values_of(call, "authorization") == [b"Bearer of the operator"]
    assert values_of(call, "x-api-key") == []


async def test_the_path_of_the_upstreams_url_is_a_prefix() -> None:
    async with (
        open_upstream() as upstream,
        open_service(f"{upstream.url}/api/x") as service,
        service.ask(STREAMED, path=f"{COMPLETIONS}?a=1"),
    ):
        call = await upstream.next_call()

    assert call.target == b"/api/x/v1/completions?a=1"


async def call_made_with(headers: dict[str, str], **settings: Any) -> UpstreamCall:
    """The call that the upstream gets for a completion with these headers."""
    async with (
        open_scripted(**settings) as service,
        service.ask(STREAMED, headers=headers) as client,
    ):
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sse(b"[DONE]"))
        assert (await client.response_head()).status == 200
    return call


def values_of(call: UpstreamCall, name: str) -> list[bytes]:
    return [value for given, value in call.headers if given == name.encode()]


def only(calls: Any) -> Call:
    """The one call that the engine got."""
    (call,) = calls
    return call
