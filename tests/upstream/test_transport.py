"""The transport by itself, as httpx has it: whole exchanges, and requests that are answered before
they are sent."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.upstream.engine import (
    DONE,
    HEAD_OF_STREAM,
    LAST_CHUNK,
    Engine,
    Peer,
    chunk,
    client_context,
    play,
    play_each,
    server_context,
    start_engine,
    whole_stream,
)
from tests.upstream.nowhere import StuckResolver
from trioproxy.testing import TaskCensus
from trioproxy.testing.network import VirtualNetwork
from trioproxy.upstream.transport import ResponseBody, TrioTransport

pytestmark = pytest.mark.usefixtures("without_garbage_collection")

TLS = pytest.mark.parametrize("tls", [None, server_context()], ids=["plain", "tls"])
LARGE = bytes(32 * 1024 * 1024)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def transport_of() -> TrioTransport:
    return TrioTransport(client_context())


async def call(transport: TrioTransport, engine: Engine, body: bytes = b"") -> httpx.Response:
    return await transport.handle_async_request(httpx.Request("POST", engine.url(), content=body))


# -- as a transport of httpx -----------------------------------------------------------------------


@TLS
async def test_client_of_httpx_works_with_it(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    answer = b"HTTP/1.1 201 Made\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    engine = await start_engine(
        nursery, play(answer + chunk(b"a") + chunk(b"b") + LAST_CHUNK), tls=tls
    )
    with TaskCensus() as census:
        async with httpx.AsyncClient(transport=transport_of()) as client:
            response = await client.post(engine.url() + "/x?a=b", content=b"{}")

        assert (response.status_code, response.reason_phrase) == (201, "Made")
        assert response.http_version == "HTTP/1.1"
        assert response.headers.get_list("x-a") == ["1", "2"]
        assert response.content == b"ab"
        assert engine.peers[0].received.startswith(b"POST /x?a=b HTTP/1.1\r\n")
        assert engine.peers[0].received.endswith(b"\r\n\r\n{}")
        await census.settled()


async def test_body_of_unknown_length_is_sent_as_a_chunk(nursery: trio.Nursery) -> None:
    async def parts() -> AsyncGenerator[bytes]:
        yield b"ab"
        yield b"c"

    async def answer(peer: Peer) -> None:
        while not peer.received.endswith(LAST_CHUNK):
            await peer.receive()
        await peer.send(OK)

    engine = await start_engine(nursery, answer)

    async with httpx.AsyncClient(transport=transport_of()) as client:
        response = await client.post(engine.url(), content=parts())

    assert response.text == "hi"
    assert engine.peers[0].received.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize("url", ["ftp://engine.test/", "http:///path"])
async def test_url_of_no_origin_is_refused(url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport_of().handle_async_request(httpx.Request("GET", url))


async def test_request_that_cannot_be_written_connects_to_nobody(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play())
    request = httpx.Request("GET", engine.url(), headers=[(b"x-a", b"1\r\nx-b: 2")])

    with pytest.raises(httpx.LocalProtocolError):
        await transport_of().handle_async_request(request)

    assert engine.peers == []


async def test_time_to_connect_is_for_all_of_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def accept(peer: Peer) -> None:
        assert not peer.received

    with VirtualNetwork() as network:
        engine = await start_engine(nursery, accept)
        request = httpx.Request("GET", engine.url("https"))
        request.extensions["timeout"] = {"connect": 3.0}
        with pytest.raises(httpx.ConnectTimeout):
            await transport_of().handle_async_request(request)
        gave_up_handshake_at = trio.current_time()
        trio.socket.set_custom_hostname_resolver(StuckResolver())
        with pytest.raises(httpx.ConnectTimeout):
            await transport_of().handle_async_request(request)
        gave_up_resolving_at = trio.current_time()
        trio.socket.set_custom_hostname_resolver(network)

        assert all(end.remote[1] != engine.port for end in network.open_endpoints)
    assert (gave_up_handshake_at, gave_up_resolving_at) == (3, 6)


async def test_body_that_is_closed_early_closes_its_connection(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(HEAD_OF_STREAM, chunk(b"a")))
    with TaskCensus() as census:
        response = await call(transport_of(), engine)
        await response.aclose()
        await response.aclose()

        await engine.peers[0].left.wait()
        await census.settled()


async def test_body_whose_reading_is_cancelled_closes_its_connection(
    nursery: trio.Nursery,
) -> None:
    engine = await start_engine(nursery, play(HEAD_OF_STREAM))
    response = await call(transport_of(), engine)
    assert isinstance(response.stream, ResponseBody)

    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(response.stream)

    await engine.peers[0].left.wait()


@TLS
async def test_connection_with_bytes_that_were_received_and_not_read_is_not_used_again(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    """They may be in TLS already, where no system call sees them."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD_OF_STREAM)
        if peer is engine.peers[0]:
            await may_go_on.wait()
            await peer.send(chunk(DONE) + LAST_CHUNK, OK)
        else:
            await peer.send(LAST_CHUNK)

    may_go_on = trio.Event()
    engine = await start_engine(nursery, answer, tls=tls)
    transport = transport_of()
    async with transport.keep_alive():
        response = await call(transport, engine)
        may_go_on.set()
        await engine.peers[0].played.wait()
        first = await response.aread()
        second = await (await call(transport, engine)).aread()

    assert (first, second) == (DONE, b"")
    assert len(engine.peers) == 2


# -- reading ---------------------------------------------------------------------------------------


async def test_what_a_read_brings_is_one_piece(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(HEAD_OF_STREAM))
    response = await call(transport_of(), engine)
    assert isinstance(response.stream, ResponseBody)
    peer = engine.peers[0]
    await peer.played.wait()

    await peer.send(chunk(b"a") + chunk(b"b") + chunk(b"c")[:-3])
    first = await anext(response.stream)
    await peer.send(b"c\r\n" + chunk(b"d") + LAST_CHUNK)
    rest = [piece async for piece in response.stream]

    assert (first, rest) == (b"ab", [b"cd"])


async def test_others_get_their_turn_at_each_piece(nursery: trio.Nursery) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    engine = await start_engine(
        nursery, play(HEAD_OF_STREAM + chunk(bytes(60_000)) * 40 + LAST_CHUNK)
    )
    response = await call(transport_of(), engine)
    assert isinstance(response.stream, ResponseBody)
    await wait_all_tasks_blocked()
    nursery.start_soon(take_turns)
    pieces = [piece async for piece in response.stream]

    assert sum(map(len, pieces)) == 60_000 * 40
    assert turns > len(pieces) / 2


# -- answered before it was sent -------------------------------------------------------------------


@TLS
async def test_refusal_ends_the_sending_of_a_large_request(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await leave.wait()

    leave = trio.Event()
    engine = await start_engine(nursery, refuse, tls=tls)
    with TaskCensus() as census:
        response = await call(transport_of(), engine, LARGE)

        assert (response.status_code, await response.aread()) == (413, b"no")
        leave.set()
        await engine.peers[0].left.wait()
        assert len(engine.peers[0].received) < len(LARGE)
        await census.settled()


@TLS
@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["small", "large"])
async def test_refusal_of_a_server_that_does_not_read_on_is_heard(
    nursery: trio.Nursery, tls: ssl.SSLContext | None, body: bytes
) -> None:
    async def refuse_and_finish(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 401 Who\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        peer.finish()

    engine = await start_engine(nursery, refuse_and_finish, tls=tls)

    response = await call(transport_of(), engine, body)

    assert (response.status_code, await response.aread()) == (401, b"no")


@TLS
async def test_success_that_begins_early_does_not_end_the_sending(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    async def answer_early(peer: Peer) -> None:
        await peer.head()
        await peer.send(HEAD_OF_STREAM)
        await peer.request()
        await peer.send(chunk(DONE), LAST_CHUNK)

    engine = await start_engine(nursery, answer_early, tls=tls)

    response = await call(transport_of(), engine, LARGE)

    assert await response.aread() == DONE
    assert engine.peers[0].received.endswith(b"\r\n\r\n" + LARGE)


@TLS
async def test_connection_is_used_again_after_a_large_request(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    engine = await start_engine(nursery, play_each(*[whole_stream()] * 2), tls=tls)
    transport = transport_of()
    async with transport.keep_alive():
        bodies = [await (await call(transport, engine, LARGE)).aread() for _ in range(2)]

    assert bodies == [DONE, DONE]
    assert len(engine.peers) == 1


async def test_tls_is_resumed_in_the_next_connection(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play_each(*[whole_stream()] * 3), tls=server_context())
    transport = transport_of()

    bodies = [await (await call(transport, engine)).aread() for _ in range(3)]

    assert bodies == [DONE] * 3
    assert [peer.session_reused for peer in engine.peers] == [False, True, True]
