"""Requests that are large, many, packed or nested: refused by size, or taken at what they cost."""

from __future__ import annotations

import gzip

import pytest

from tests.attacks.standing import open_attacked, statuses
from tests.support.rawhttp import open_client
from tests.support.websocket import HANDSHAKE, TEXT, Peer, frame
from tests.web.service import COMPLETION, COMPLETIONS
from tests.web.sockets import open_socket
from trioproxy.wire import ROUTES

HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
TOO_LARGE = {
    "header without end": HEAD + b"X-A: " + b"a" * 200_000,
    "header": HEAD + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n",
    "ten thousand headers": HEAD + b"X-A: many of them\r\n" * 10_000 + b"\r\n",
    "ten thousand names": HEAD
    + b"".join(b"X-%d: many of them\r\n" % n for n in range(10_000))
    + b"\r\n",
    "target": b"GET /v1/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "query": b"GET /v1/models?" + b"a=b&" * 50_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "method": b"A" * 200_000 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("sent", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_a_head_that_is_too_large_is_refused(sent: bytes) -> None:
    async with open_attacked() as service, open_client(service.url) as client:
        await client.send(sent)
        assert (await client.response_head()).status in (400, 431)
        await client.wait_closed()

        assert service.engine.connections == []


async def test_as_many_headers_as_fit_are_taken() -> None:
    """8,000 that say nothing, and 2,000 that name each other as hop-by-hop."""
    small = b"".join(b"%x:\r\n" % number for number in range(8_000))
    named = b"Connection: " + b",".join(b"%x" % number for number in range(2_000)) + b"\r\n"
    head = HEAD.replace(b"Connection: close\r\n", b"") + b"Content-Length: 2\r\n"
    async with open_attacked() as service:
        async with open_client(service.url) as client:
            await client.send(head + small[:50_000].rpartition(b"\r\n")[0] + b"\r\n\r\n{}")
            assert (await client.response_head()).status == 200
            await client.body()
            await client.send(head + small[:20_000].rpartition(b"\r\n")[0] + b"\r\n" + named)
            await client.send(b"\r\n{}")
            assert (await client.response_head()).status == 200
            await client.body()

        [many, few] = service.engine.requests()
        assert many.values(b"7ff") == [b""]
        assert few.values(b"7cf") == []


@pytest.mark.parametrize(
    "path", [COMPLETIONS, "/v1/responses", "/v1/generations", "/v1/embeddings"]
)
@pytest.mark.parametrize("framing", ["length", "chunks", "one chunk"])
async def test_a_body_without_measure_is_not_gathered(path: str, framing: str) -> None:
    length = (
        "Content-Length: 1000000000000" if framing == "length" else "Transfer-Encoding: chunked"
    )
    piece = {
        "length": b"a" * 10_000,
        "chunks": b"2710;" + b"a" * 1_000 + b"\r\n" + b"a" * 10_000 + b"\r\n",
        "one chunk": b"a" * 10_000,
    }[framing]
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode()
    start = b"FFFFFFFFFF\r\n" if framing == "one chunk" else b""
    async with open_attacked(max_body=100_000) as service:
        answered = await service.told(head + start + piece * 20)

        assert service.engine.connections == []
    assert statuses(answered) == [413]


BOMB = gzip.compress(bytes(50 * 2**20), 9)


@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/responses", "/v1/generations"])
async def test_what_is_packed_is_not_unpacked_here(path: str) -> None:
    packed = {"content-encoding": "gzip", "content-type": "application/json"}
    async with open_attacked(max_body=100_000) as service:
        before = (await service.http.get("/debug/census")).json()["rss_bytes"]
        refused = await service.http.post(path, content=BOMB, headers=packed)
        after = (await service.http.get("/debug/census")).json()["rss_bytes"]

        assert service.engine.connections == []
    assert refused.status_code == 400
    assert after - before < 10 * 2**20


async def test_what_is_packed_reaches_the_engine_as_it_came() -> None:
    packed = {"content-encoding": "gzip"}
    async with open_attacked() as service:
        await service.http.post("/v1/embeddings", content=BOMB, headers=packed)

        [request] = service.engine.requests()
        assert request.body == BOMB
        assert request.values(b"content-encoding") == [b"gzip"]


NESTED = [b"[" * 100_000, b'{"a":' * 100_000, b'{"model":' + b"[" * 100_000]
ODD = [
    *NESTED,
    *(b'{"prompt":' + nested for nested in NESTED),
    b'{"n":1e400,"stream":true}',
    b'{"n":%b,"stream":true}' % (b"9" * 100_000),
    b'{"n":-%b.%be-%b,"stream":true}' % (b"9" * 30_000, b"9" * 30_000, b"9" * 300),
    b'{"n":NaN}',
    b'{"n":Infinity}',
    b'{"model":"a","model":"b","stream":false,"stream":true,"stream":null}',
    b'{"model":"\\ud800","stream":true}',
    b'{"model":"\xed\xa0\x80","stream":true}',
    b'{"\xff":1,"stream":true}',
    b'\xef\xbb\xbf{"stream":true}',
    '{"stream":true}'.encode("utf-16"),
    b'{"model":"%b","stream":true}' % (b"a" * 1_000_000),
    b'{"stream":true}' + b" " * 100_000 + b"x",
    b'{%b"stream":true}' % b"".join(b'"%d":0,' % number for number in range(100_000)),
]


@pytest.mark.parametrize("path", [*ROUTES, "/v1/generations"])
async def test_json_of_any_kind_is_taken_or_refused(path: str) -> None:
    async with open_attacked() as service:
        for body in ODD:
            answered = await service.http.post(path, content=body)
            assert answered.status_code in (200, 400, 502), body[:40]
            assert len(answered.text) < 1_000
        for body in [b'{"path":"/v1/completions","body":%b}' % each for each in ODD]:
            answered = await service.http.post("/v1/generations", content=body)
            assert answered.status_code in (201, 400), body[:40]
            if answered.status_code == 201:
                await service.http.delete(f"/v1/generations/{answered.json()['id']}")


@pytest.mark.parametrize(
    ("body", "streams", "sent"),
    [
        (b'{"stream":true,"stream":false}', False, b'{"stream":true,"stream":false}'),
        (b'{"stream":false,"stream":true}', True, b'{"stream":false,"stream":true}'),
        (
            b'{"stream":false,"stream":null}',
            True,
            b'{"stream":false,"stream":null,"stream":true}',
        ),
    ],
)
async def test_of_a_field_that_comes_twice_proxy_and_engine_mean_the_same(
    body: bytes, streams: bool, sent: bytes
) -> None:
    """The last: what every reader of JSON in use does (RFC 8259, section 4, leaves it open)."""
    async with open_attacked(default_stream=True) as service:
        async with service.ask(body) as client:
            head = await client.response_head()
            await client.body()

        [request] = service.engine.requests()
        assert request.body == sent
    assert ("cache-control" in head.headers) == streams


MESSAGES = [
    *NESTED,
    *(b'{"type":"generate","path":"/v1/completions","body":' + nested for nested in NESTED),
    *(b'{"type":"ping","ref":' + ref + b"}" for ref in [b"1e400", b"9" * 5_000, b"NaN", b"[]"]),
    b'{"type":"ping","ref":"\\ud800"}',
    b'{"type":"ping","type":"cancel","ref":1}',
    b'{"type":"generate","path":"/v1/completions","body":{},"linger":1e400}',
    b'{"type":"generate","path":"/v1/completions","body":{},"linger":-1}',
    b'{"type":"subscribe","generation":"gen_0","after":-%b}' % (b"9" * 400),
    b'{"type":"subscribe","generation":"gen_0","after":%b}' % (b"9" * 5_000),
    b'\xef\xbb\xbf{"type":"ping"}',
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: repr(message[:60]))
async def test_a_message_of_any_kind_is_answered_or_ends_its_socket(message: bytes) -> None:
    async with open_attacked() as service, service.get("/v1/ws", headers=HANDSHAKE) as client:
        assert (await client.response_head()).status == 101
        peer = Peer(client)
        await peer.send(frame(TEXT, message) + frame(TEXT, b'{"type":"ping","ref":"next"}'))
        heard = [await peer.next_frame()]
        if b'"next"' not in heard[0][1] and heard[0][0] == TEXT:
            heard.append(await peer.next_frame())

    opcode, payload = heard[-1]
    assert opcode == 8 or b'"next"' in payload
    assert all(len(payload) < 1_000 for _, payload in heard)


@pytest.mark.parametrize("after", [-1, 10**30, -(10**30)])
async def test_an_event_that_cannot_be_is_not_read_from(after: int) -> None:
    async with open_attacked() as service, open_socket(service) as socket:
        created = await service.create({"path": COMPLETIONS, "body": COMPLETION, "linger": 5})
        await service.outcome_of(created["id"])
        heard = await socket.ask(type="subscribe", generation=created["id"], after=after)
        again = await socket.ask(type="ping", ref=1)

    assert heard["type"] == "error"
    assert again == {"type": "pong", "ref": 1}
