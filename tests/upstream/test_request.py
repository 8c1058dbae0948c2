"""The request as the engine receives it, byte for byte."""

from __future__ import annotations

import ssl

import pytest
import trio

from tests.upstream.calls import read, upstream_to
from tests.upstream.engine import play, server_context, start_engine, whole_stream
from trioproxy.upstream import UpstreamRequest


def post(target: bytes) -> UpstreamRequest:
    return UpstreamRequest("POST", target, [], b"{}")


async def test_engine_receives_what_the_client_sent_and_nothing_of_the_http_library(
    nursery: trio.Nursery,
) -> None:
    sent_by_the_client = [
        (b"Host", b"proxy.test"),
        (b"User-Agent", b"OpenAI/Python 3.0"),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"999"),
        (b"Accept-Encoding", b"gzip, br"),
        (b"Connection", b"keep-alive, x-hop"),
        (b"X-Hop", b"1"),
        (b"X-Stainless-Lang", b"python"),
        (b"X-Stainless-Lang", b"twice"),
    ]
    engine = await start_engine(nursery, play(whole_stream()))
    body = b'{"prompt": "\xe2\x80\xa8"}'

    await read(
        upstream_to(engine),
        UpstreamRequest(
            "POST",
            b"/v1/completions",
            sent_by_the_client,
            body,
        ),
    )

    assert bytes(engine.peers[0].received) == (
        b"POST /v1/completions HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"user-agent: OpenAI/Python 3.0\r\n"
        b"content-type: application/json\r\n"
        b"x-stainless-lang: python\r\n"
        b"x-stainless-lang: twice\r\n"
        b"accept-encoding: identity\r\n"
        b"Content-Length: 17\r\n"
        b"\r\n"
        b'{"prompt": "\xe2\x80\xa8"}' % engine.port
    )


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("GET", b"", set()),
        ("DELETE", b"", set()),
        ("POST", b"", {b"Content-Length: 0"}),
        ("PUT", b"ab", {b"Content-Length: 2"}),
        ("DELETE", b"ab", {b"Content-Length: 2"}),
        ("PURGE", b"ab", {b"Content-Length: 2"}),
    ],
)
async def test_body_is_announced_where_there_is_one_or_could_be(
    nursery: trio.Nursery, method: str, body: bytes, framing: set[bytes]
) -> None:
    engine = await start_engine(nursery, play(b"HTTP/1.1 204 Gone\r\n\r\n"))

    async with upstream_to(engine).forward(UpstreamRequest(method, b"/x", [], body)):
        pass

    head, _, sent = bytes(engine.peers[0].received).partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    expected = {b"Host: 127.0.0.1:%d" % engine.port, b"accept-encoding: identity"} | framing
    assert (method.encode() + b" /x HTTP/1.1", expected, body) == (first, set(fields), sent)


async def test_large_body_arrives_whole(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(whole_stream()))
    body = bytes(range(256)) * 4096 * 8

    await read(upstream_to(engine), UpstreamRequest("POST", b"/", [], body))

    assert engine.peers[0].received.endswith(b"\r\n\r\n" + body)


TARGETS = [
    ("", b"/v1/completions", b"/v1/completions"),
    ("/", b"/v1/completions", b"/v1/completions"),
    ("/engine", b"/v1/completions", b"/engine/v1/completions"),
    ("/engine/", b"/v1/completions", b"/engine/v1/completions"),
    ("/a/b%2Fc//", b"/v1", b"/a/b%2Fc/v1"),
    ("", b"/v1?a=b&c", b"/v1?a=b&c"),
    ("/engine/", b"/v1?a=/x/../y", b"/engine/v1?a=/x/../y"),
    ("", b"/v1?", b"/v1?"),
    ("", b"/a%2fb%2F%20%E2%80%a8?q=%2f+%20", b"/a%2fb%2F%20%E2%80%a8?q=%2f+%20"),
    ("", b"//v1//models/", b"//v1//models/"),
    ("/engine", b"//v1", b"/engine//v1"),
    ("", b"/a;b=1;c/d;?e;f", b"/a;b=1;c/d;?e;f"),
    ("", b"/v1/models/org@model:tag,v=1*!$&'()+~_", b"/v1/models/org@model:tag,v=1*!$&'()+~_"),
    ("", b"/100%", b"/100%"),
]


@pytest.mark.parametrize(("prefix", "target", "expected"), TARGETS)
async def test_target_travels_as_it_is_behind_the_upstreams_prefix(
    nursery: trio.Nursery, prefix: str, target: bytes, expected: bytes
) -> None:
    engine = await start_engine(nursery, play(whole_stream()))

    await read(upstream_to(engine, url=engine.url() + prefix), post(target))

    assert b"POST %b HTTP/1.1" % expected == engine.peers[0].received.split(b"\r\n")[0]


@pytest.mark.parametrize("tls", [None, server_context()], ids=["http", "https"])
async def test_host_may_be_an_ipv6_address(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    engine = await start_engine(nursery, play(whole_stream()), tls=tls, host="::1")
    url = engine.url(host="[::1]")

    arrivals = await read(upstream_to(engine, url=url))

    assert b"Host: [::1]:%d" % engine.port in engine.peers[0].received.split(b"\r\n")
    assert [arrival.data for arrival in arrivals] == [b"[DONE]"]
