"""Clients that take their time: each step has an end, and while they are there nobody else waits.

The times that are no settings are shortened for the test.
"""

from __future__ import annotations

import json
import resource
import socket
import struct
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import trio
import trustme

from tests.attacks.engine import answer
from tests.attacks.standing import Attacked, open_attacked, read_to_end, statuses
from tests.e2e.commands import open_proxy
from tests.e2e.polling import fetch
from tests.support.rawhttp import RawClient, open_client
from tests.support.websocket import HANDSHAKE, TEXT, Peer, frame
from tests.web.service import COMPLETIONS, wait_until
from trioproxy.serving import proxy
from trioproxy.simulator import EngineSettings, open_engine

PATIENCE = 0.3
PAUSE = 0.02
"""Between two bytes of one who trickles."""


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "TLS_HANDSHAKE_SECONDS", PATIENCE)


@pytest.fixture
def short_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "KEEP_ALIVE_SECONDS", PATIENCE)


async def trickle(client: RawClient, data: bytes) -> None:
    """A byte at a time, until the other side has had enough."""
    try:
        for byte in data:
            await client.send(bytes([byte]))
            await trio.sleep(PAUSE)
    except trio.BrokenResourceError:
        return


async def told_while_trickling(service: Attacked, begun: bytes, rest: bytes) -> bytes:
    """What one is answered who trickles: long before it could be through."""
    async with open_client(service.url) as client, trio.open_nursery() as nursery:
        await client.send(begun)
        nursery.start_soon(trickle, client, rest)
        answered = await read_to_end(client, within=len(rest) * PAUSE / 2)
        nursery.cancel_scope.cancel()
    return answered


HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
HANDSHAKE_HEAD = (
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items()).encode()
)


@pytest.mark.usefixtures("short_keep_alive")
@pytest.mark.parametrize("begun", [b"", HEAD, HANDSHAKE_HEAD], ids=["nothing", "head", "handshake"])
async def test_a_head_that_trickles_is_not_waited_for(begun: bytes) -> None:
    async with open_attacked() as service:
        answered = await told_while_trickling(service, begun, b"X-A: " + b"a" * 500)

        assert service.engine.connections == []
    assert answered == b""


@pytest.mark.usefixtures("short_keep_alive")
async def test_a_head_that_trickles_behind_an_answer_is_not_waited_for() -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with open_attacked() as service:
        answered = await told_while_trickling(service, whole, HEAD * 20)

    assert statuses(answered) == [200]


@pytest.mark.parametrize("path", [b"/v1/completions", b"/v1/generations", b"/v1/embeddings"])
async def test_a_body_that_trickles_is_not_waited_for(path: bytes) -> None:
    head = HEAD.replace(b"/v1/completions", path)
    async with open_attacked(body_timeout=PATIENCE) as service:
        answers = [
            await told_while_trickling(service, head + framing, rest * 100)
            for framing, rest in [
                (b"Content-Length: 1000\r\n\r\n", b"aaaaaa"),
                (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
                (b"Transfer-Encoding: chunked\r\n\r\n1;", b"aaaaaa"),
            ]
        ]

        assert service.engine.connections == []
    assert [statuses(each) for each in answers] == [[408]] * 3


async def test_a_handshake_of_tls_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certfile, keyfile = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(keyfile)
    certfile.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    hello = b"\x16\x03\x01" + struct.pack("!H", 2_000) + b"\x01\x00\x07\xfc\x03\x03"
    async with open_attacked(certfile=str(certfile), keyfile=str(keyfile)) as service:
        plain = service.url.replace("https", "http")
        for begun in (b"", hello):
            async with open_client(plain) as client, trio.open_nursery() as nursery:
                await client.send(begun)
                nursery.start_soon(trickle, client, bytes(500))
                assert statuses(await read_to_end(client)) == []
                nursery.cancel_scope.cancel()


MUCH = 9_000_000
"""More than the kernel keeps for a client with a small buffer."""
EVENTS = answer((b"data: " + b"a" * (MUCH // 10) + b"\n\n") * 10)


@pytest.mark.parametrize("kind", ["stream", "whole", "forwarded", "websocket"])
async def test_one_who_reads_nothing_is_cut_off(kind: str) -> None:
    async with open_attacked(write_timeout=PATIENCE) as service:
        connections = service.proxy.server.connections
        service.engine.answer = EVENTS
        if kind == "whole":
            service.engine.answer = answer(bytes(MUCH), kind=b"application/json")
        before = len(connections)
        async with open_client(service.url, rcvbuf=4096) as client:
            if kind == "websocket":
                await client.request("GET", "/v1/ws", headers=HANDSHAKE)
                await client.response_head()
                asked = b'{"type":"generate","path":"/v1/completions","body":{}}'
                await Peer(client).send(frame(TEXT, asked))
            else:
                path = "/v1/embeddings" if kind == "forwarded" else COMPLETIONS
                body = b'{"stream":false}' if kind == "whole" else b"{}"
                await client.request("POST", path, body=body)

            async def is_cut_off() -> bool:
                await trio.lowlevel.checkpoint()
                return len(connections) <= before

            await wait_until(lambda: has_come(len(service.engine.connections) == 1))
            await wait_until(is_cut_off)


async def has_come(it: bool) -> bool:
    await trio.lowlevel.checkpoint()
    return it


IDLE = 10_000
AT_ONCE = 250
DESCRIPTORS = IDLE + 2_000
MAX_BYTES_EACH = 30_000


@pytest.fixture
def many_descriptors() -> Generator[None]:
    """So many for this process, and for those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"no more than {hard} descriptors may be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
async def test_ten_thousand_who_only_connect_cost_little_and_disturb_nobody(
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    endless = EngineSettings(rate=50, ttft=0, tokens=1_000_000)
    async with open_engine(settings=endless) as engine:
        with open_proxy(engine.url) as command:
            idle: list[socket.socket] = []
            async with open_client(command.url) as reader:
                await reader.request("POST", COMPLETIONS, body=b'{"prompt":"a","stream":true}')
                await reader.response_head()
                before, rss = await command.census(), await rss_of(command.url)
                try:
                    for _ in range(IDLE // AT_ONCE):
                        idle += [connect(command.url) for _ in range(AT_ONCE)]
                        read = await reader.next_event()
                        assert read is not None
                    await command.wait_census({"connections": before["connections"] + IDLE})
                    each = (await rss_of(command.url) - rss) / IDLE
                    seen = [await next_seq(reader) for _ in range(20)]
                finally:
                    for connection in idle:
                        connection.close()
                await command.wait_census({"connections": before["connections"]})
            await command.wait_at_rest(within=5)

    record_testsuite_property("bytes of an idle connection", round(each))
    assert seen == list(range(seen[0], seen[0] + 20))
    assert each < MAX_BYTES_EACH


async def rss_of(url: str) -> int:
    return json.loads(await fetch(url, "/debug/census"))["rss_bytes"]


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)))


async def next_seq(reader: RawClient) -> int:
    event = await reader.next_event()
    assert event is not None
    assert event.id is not None
    return int(event.id.rpartition(":")[2])
