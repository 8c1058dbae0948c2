"""Request smuggling: bytes that one server reads as one request and another as two (RFC 9112,
section 11.2); and what no server can read. The proxy refuses them and closes, and what reaches the
engine holds one request."""

from __future__ import annotations

import logging

import pytest

from tests.attacks.standing import open_attacked, statuses
from tests.support.rawhttp import open_client
from tests.support.websocket import HANDSHAKE

SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
SIZE = len(SMUGGLED)
LENGTH = b"Content-Length: %d\r\n" % SIZE
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NO_CHUNKS = b"0\r\n\r\n"


def post(headers: bytes, body: bytes, version: bytes = b"1.1") -> bytes:
    head = b"POST /v1/completions HTTP/%b\r\nHost: localhost\r\n%b\r\n" % (version, headers)
    return head + body


REFUSED = {
    "CL.TE": post(b"Content-Length: %d\r\n" % (5 + SIZE) + CHUNKED, NO_CHUNKS + SMUGGLED),
    "TE.CL": post(CHUNKED + b"Content-Length: 0\r\n", NO_CHUNKS + SMUGGLED),
    "TE.CL without a rest": post(CHUNKED + b"Content-Length: 2\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunks to HTTP/1.0": post(CHUNKED, NO_CHUNKS + SMUGGLED, version=b"1.0"),
    "another coding": post(b"Transfer-Encoding: xchunked\r\n" + LENGTH, SMUGGLED),
    "a coding after chunked": post(b"Transfer-Encoding: chunked, identity\r\n", SMUGGLED),
    "a coding before chunked": post(b"Transfer-Encoding: identity, chunked\r\n", SMUGGLED),
    "two codings": post(CHUNKED + b"Transfer-Encoding: identity\r\n", NO_CHUNKS + SMUGGLED),
    "vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked\r\n", SMUGGLED),
    "quoted chunked": post(b'Transfer-Encoding: "chunked"\r\n', SMUGGLED),
    "space before the colon": post(b"Transfer-Encoding : chunked\r\n", SMUGGLED),
    "folded coding": post(b"Transfer-Encoding:\r\n chunked\r\n", NO_CHUNKS + SMUGGLED),
    "folded header": post(b"X-A: b\r\n Content-Length: 0\r\n" + LENGTH, SMUGGLED),
    "folded by a tab": post(b"X-A: b\r\n\tc\r\n" + LENGTH, SMUGGLED),
    "header that begins with a space": post(b" X-A: b\r\n" + LENGTH, SMUGGLED),
    "bare LF": post(b"X-A: b\n" + CHUNKED + b"\n", NO_CHUNKS + SMUGGLED),
    "bare LF at the head's end": post(LENGTH, SMUGGLED).replace(b"\r\n\r\n", b"\r\n\n", 1),
    "bare LF throughout": post(LENGTH, SMUGGLED).replace(b"\r\n", b"\n"),
    "bare CR": post(b"X-A: b\r" + CHUNKED, NO_CHUNKS + SMUGGLED),
    "NUL in a value": post(b"X-A: b\0c\r\n" + LENGTH, SMUGGLED),
    "NUL in a name": post(b"X\0A: b\r\n" + LENGTH, SMUGGLED),
    "no name": post(b": b\r\n" + LENGTH, SMUGGLED),
    "two lengths": post(LENGTH + b"Content-Length: 0\r\n", SMUGGLED),
    "two lengths in one": post(b"Content-Length: %d, 0\r\n" % SIZE, SMUGGLED),
    "length with a sign": post(b"Content-Length: +0\r\n", SMUGGLED),
    "negative length": post(b"Content-Length: -1\r\n", SMUGGLED),
    "length in hex": post(b"Content-Length: 0x0\r\n", SMUGGLED),
    "length as Python writes it": post(b"Content-Length: 0_0\r\n", SMUGGLED),
    "length in superscript": post(b"Content-Length: \xb2\r\n", SMUGGLED),
    "no length": post(b"Content-Length: \r\n", SMUGGLED),
    "length of 5000 digits": post(b"Content-Length: %b\r\n" % (b"0" * 5000), SMUGGLED),
    "chunk size in Python's hex": post(CHUNKED, b"0x0\r\n\r\n" + SMUGGLED),
    "chunk size with a sign": post(CHUNKED, b"+0\r\n\r\n" + SMUGGLED),
    "bare LF in a chunk's extension": post(CHUNKED, b"0;\n\r\n" + SMUGGLED),
    "chunk longer than its size": post(CHUNKED, b"2\r\n{}xx0\r\n\r\n" + SMUGGLED),
    "two hosts": post(LENGTH + b"Host: elsewhere\r\n", SMUGGLED),
    "host with an empty label": SMUGGLED.replace(b"localhost", b"a..b"),
    "host that begins with a dot": SMUGGLED.replace(b"localhost", b".localhost"),
    "host with a long label": SMUGGLED.replace(b"localhost", b"a" * 64),
    "host with a space": SMUGGLED.replace(b"localhost", b"a b"),
    "host beyond ASCII": SMUGGLED.replace(b"localhost", b"\xe2\x84\x80"),
    "host with a user": SMUGGLED.replace(b"localhost", b"me@localhost"),
    "host with a path": SMUGGLED.replace(b"localhost", b"localhost/a"),
    "connection beyond ASCII": post(b"Connection: \xff\r\n" + LENGTH, SMUGGLED),
    "subprotocol beyond ASCII": SMUGGLED.replace(
        b"\r\n\r\n",
        b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: \xff\r\n\r\n",
    ),
    "space in the target": SMUGGLED.replace(b"/v1/", b"/v1/ /"),
    "tab in the target": SMUGGLED.replace(b"/v1/", b"/v1/\t"),
    "space before the method": b" " + SMUGGLED,
    "bytes beyond ASCII in the target": SMUGGLED.replace(b"/v1/", b"/v1/\xff"),
    "HTTP/0.9": b"GET /v1/smuggled\r\n\r\n",
    "HTTP/1.2": SMUGGLED.replace(b"1.1", b"1.2"),
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
async def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_attacked() as service:
        answered = await service.told(sent)

        assert service.engine.connections == []
    assert len(statuses(answered)) == 1
    assert statuses(answered)[0] in (400, 501, 505)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("sent", [REFUSED["bare LF"], REFUSED["folded coding"], REFUSED["CL.TE"]])
async def test_it_is_refused_as_the_second_request_and_byte_by_byte_too(sent: bytes) -> None:
    async with open_attacked() as service, open_client(service.url) as client:
        await client.request("GET", "/v1/models")
        await client.response_head()
        await client.body()
        for byte in sent.partition(NO_CHUNKS)[0]:
            await client.send(bytes([byte]))
        assert (await client.response_head()).status == 400
        await client.wait_closed()

        assert [request.target for request in service.engine.requests()] == [b"/v1/models"]


ODD_AND_SOUND = {
    "length": post(LENGTH, SMUGGLED),
    "the same length twice": post(LENGTH + LENGTH, SMUGGLED),
    "the same length twice in one": post(b"Content-Length: %d, %d\r\n" % (SIZE, SIZE), SMUGGLED),
    "chunk": post(CHUNKED, b"%x\r\n" % SIZE + SMUGGLED + b"\r\n" + NO_CHUNKS),
    "chunk with an extension": post(CHUNKED, b"%X;a=b\r\n" % SIZE + SMUGGLED + b"\r\n" + NO_CHUNKS),
    "space behind the chunk's size": post(
        CHUNKED, b"%x \r\n" % SIZE + SMUGGLED + b"\r\n" + NO_CHUNKS
    ),
    "a length among the trailers": post(
        CHUNKED,
        b"%x\r\n" % SIZE + SMUGGLED + b"\r\n0\r\nContent-Length: 5\r\nHost: elsewhere\r\n\r\n",
    ),
    "upgrade": post(b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + LENGTH, SMUGGLED),
    "upgrade to HTTP/2": post(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        + LENGTH,
        SMUGGLED,
    ),
    "hop-by-hop length": post(b"Connection: content-length, host\r\n" + LENGTH, SMUGGLED),
    "body of a GET": post(LENGTH, SMUGGLED).replace(b"POST", b"GET"),
}


@pytest.mark.parametrize("sent", ODD_AND_SOUND.values(), ids=ODD_AND_SOUND.keys())
async def test_the_engine_gets_one_request_with_the_body_that_was_meant(sent: bytes) -> None:
    sent = sent.replace(b"/v1/completions", b"/v1/embeddings")
    async with open_attacked() as service:
        async with open_client(service.url) as client:
            await client.send(sent)
            assert (await client.response_head()).status == 200
            await client.body()

        [request] = service.engine.requests()
        assert (request.target, request.body) == (b"/v1/embeddings", SMUGGLED)
        assert request.values(b"content-length") == [b"%d" % SIZE]
        assert request.values(b"host") == [service.engine.url.removeprefix("http://").encode()]
        for name in (b"transfer-encoding", b"connection", b"upgrade", b"http2-settings"):
            assert request.values(name) in ([], [b"AAMAAABk"] * (name == b"http2-settings"))


@pytest.mark.parametrize(
    "size", [b"FFFFFFFFFFFFFFFF", b"1" + b"%016x" % SIZE, b"1" + b"%021x" % SIZE]
)
async def test_a_size_that_overflows_is_no_small_one(size: bytes) -> None:
    async with open_attacked(body_timeout=0.2) as service:
        answered = await service.told(post(CHUNKED, size + b"\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"))

        assert service.engine.connections == []
    assert statuses(answered) in ([400], [408])


async def test_a_handshake_with_a_body_opens_no_tunnel() -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items()).encode()
    sent = b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\n" + head + LENGTH + b"\r\n" + SMUGGLED
    async with open_attacked() as service:
        answered = await service.told(sent)

        assert service.engine.connections == []
    assert statuses(answered) == [400]


@pytest.mark.parametrize(
    "broken",
    [("sec-websocket-version", "777"), ("sec-websocket-version", ""), ("sec-websocket-key", None)],
)
async def test_a_handshake_that_is_refused_keeps_no_connection(
    broken: tuple[str, str | None],
) -> None:
    """What was refused is no tunnel, though a server in front may take it for one."""
    headers = HANDSHAKE | {broken[0]: broken[1]}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    sent = b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\n" + head.encode() + b"\r\n"
    async with open_attacked() as service:
        answered = await service.told(sent + SMUGGLED)
        told_nothing_more = await service.told(sent)

        assert service.engine.connections == []
    assert statuses(answered) == statuses(told_nothing_more) == [400]


async def test_requests_that_are_sent_ahead_share_nothing_but_the_connection() -> None:
    first = post(b"Authorization: Bearer first\r\nContent-Length: 2\r\n", b"{}")
    second = post(b"X-Api-Key: second\r\nContent-Length: 2\r\n", b"{}")
    async with open_attacked() as service:
        await service.told(first + second)

        requests = service.engine.requests()
        assert len(requests) == 1  # the connection closes behind the first
        assert requests[0].values(b"authorization") == [b"Bearer first"]
        assert requests[0].values(b"x-api-key") == []
