"""WebSocket clients that break the rules, or just stop: each is closed with the code that says why,
and nothing of it is left."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.rawhttp import RawClient, open_client
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Peer,
    frame,
)
from tests.web.service import (
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    SimulatedService,
    assert_answers,
    open_simulated,
    wait_until,
)
from tests.web.sockets import open_socket
from trioproxy.testing import TaskCensus

GENERATE = json.dumps({"type": "generate", "path": COMPLETIONS, "body": {"prompt": "a"}}).encode()
ENDLESS = {"x-sim-tokens": "1000000", "x-sim-rate": "200"}
FAST_ENDLESS = {"x-sim-tokens": "1000000", "x-sim-rate": "0"}


@asynccontextmanager
async def open_peer(
    service: SimulatedService, *, headers: dict[str, str] = ENDLESS
) -> AsyncGenerator[Peer]:
    """A WebSocket over which a generation is read that does not end."""
    async with service.request("GET", "/v1/ws", headers=HANDSHAKE | headers) as client:
        assert (await client.response_head()).status == 101
        peer = Peer(client)
        await peer.send(frame(TEXT, GENERATE))
        assert b'"type":"generation"' in (await peer.next_frame())[1]
        yield peer


@asynccontextmanager
async def nothing_left(**settings: object) -> AsyncGenerator[SimulatedService]:
    """A service that has let go of everything when the block is done, and answers."""
    async with open_simulated(upstream_keep_alive=0.0, **settings) as service:
        await assert_answers(service)
        await wait_all_tasks_blocked()
        with TaskCensus() as census:
            yield service
            await service.wait_released()
            await assert_answers(service)
            await census.settled()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"garbage"), 1008),
        (frame(TEXT, b""), 1008),
        (frame(TEXT, b"[]"), 1008),
        (frame(TEXT, b"1"), 1008),
        (frame(TEXT, b'{"type":'), 1008),
        (frame(TEXT, b"[" * 100_000), 1008),
        (frame(BINARY, b'{"type":"ping"}'), 1008),
        (frame(BINARY, b""), 1008),
        (frame(TEXT, b"\xff"), 1007),
        (frame(3, b"x"), 1002),
        (frame(TEXT | 0x40, b"x"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(TEXT, b"x", masked=False), 1002),
        (b"GET / HTTP/1.1\r\n\r\n" * 10, 1002),
        (frame(TEXT, b"x" * (10 * 2**20)), 1009),
        (b"".join(frame(opcode, b"x" * 2**20, fin=False) for opcode in (1, *[0] * 9)), 1009),
        (frame(TEXT, b'{"type":"ping"}') * 2_000, 1008),
        (frame(CLOSE, struct.pack("!H", 1000)), 1000),
        (frame(CLOSE, struct.pack("!H", 4000) + b"bye"), 4000),
        (frame(CLOSE, b"x"), 1002),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else None,
)
async def test_what_breaks_the_rules_is_closed_with_the_code_that_says_which(
    sent: bytes, code: int
) -> None:
    async with (
        nothing_left() as service,
        open_peer(service) as peer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(send_as_far_as_it_goes, peer, sent)
        assert await peer.wait_closed() == code
        await peer.client.wait_closed()
        nursery.cancel_scope.cancel()


async def send_as_far_as_it_goes(peer: Peer, data: bytes) -> None:
    """Send, though the other side may have had enough before all is sent."""
    try:
        await peer.send(data)
    except trio.BrokenResourceError:
        return


@pytest.mark.parametrize("sent", [b"", frame(TEXT, b"half")[:3], frame(TEXT, b"half", fin=False)])
async def test_who_falls_silent_is_told_so_and_left(sent: bytes) -> None:
    async with (
        nothing_left(heartbeat=0.1) as service,
        open_peer(service, headers=HALF_OF_EIGHT_THEN_SILENCE) as peer,
    ):
        await peer.send(sent)
        assert await peer.wait_closed() == 4408
        await peer.client.wait_closed()


async def test_who_takes_what_comes_need_not_say_a_word() -> None:
    async with nothing_left(heartbeat=0.5) as service, open_peer(service) as peer:
        began = trio.current_time()
        while trio.current_time() < began + 2:
            assert (await peer.next_frame())[0] in (TEXT, PING)
        peer.client.close()


async def test_who_answers_pings_may_be_silent_for_as_long_as_it_likes() -> None:
    async with open_simulated(heartbeat=0.7) as service, open_peer(service, headers={}) as peer:
        pings = 0
        while pings < 3:
            opcode, payload = await peer.next_frame()
            if opcode == PING:
                await peer.send(frame(PONG, payload))
                pings += 1


async def test_pings_of_the_client_are_answered() -> None:
    async with nothing_left() as service, open_peer(service) as peer:
        await peer.send(frame(PING, b"are you there"))
        while (answer := await peer.next_frame())[0] != PONG:
            pass
        peer.client.close()

    assert answer == (PONG, b"are you there")


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.half_close, RawClient.reset])
async def test_who_leaves_without_a_word_has_left_everything(leave: object) -> None:
    async with nothing_left() as service, open_peer(service) as peer:
        leave(peer.client)  # type: ignore[operator]
        await service.wait_released()


async def test_who_reads_nothing_is_cut_off_after_the_write_timeout() -> None:
    async with (
        nothing_left(write_timeout=0.2) as service,
        open_peer(service, headers=FAST_ENDLESS),
    ):
        await service.wait_released()


async def test_who_asks_and_does_not_read_the_answers_is_cut_off() -> None:
    questions = frame(TEXT, b'{"type":"ping","ref":"%b"}' % (b"x" * 20_000)) * 450
    async with (
        nothing_left(write_timeout=0.2) as service,
        open_client(service.url, rcvbuf=4096) as client,
    ):
        connections = service.proxy.server.connections
        await client.request("GET", "/v1/ws", headers=HANDSHAKE)
        assert (await client.response_head()).status == 101
        before = len(connections)
        await send_as_far_as_it_goes(Peer(client), questions)

        async def is_cut_off() -> bool:
            await trio.lowlevel.checkpoint()
            return len(connections) < before

        await wait_until(is_cut_off)


async def test_who_does_not_wait_for_the_handshake_is_refused() -> None:
    """RFC 6455, section 4.1: the client must wait for the answer before it sends any data."""
    head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    async with nothing_left() as service, open_client(service.url) as client:
        await client.send(
            f"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\n{head}\r\n".encode()
            + frame(TEXT, b'{"type":"ping","ref":1}')
        )
        assert (await client.response_head()).status == 400
        await client.wait_closed()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "ping", "ref": "x" * 200},
        {"type": "subscribe", "generation": "x" * 200},
        {"type": "generate", "path": "/" + "x" * 600, "body": {}},
        {"type": "generate", "path": COMPLETIONS, "body": {}, "key": "x" * 600},
        {"type": "x" * 100_000},
    ],
    ids=lambda message: str(message)[:40],
)
async def test_what_comes_back_to_a_client_is_short(message: dict[str, object]) -> None:
    async with nothing_left() as service, open_socket(service) as socket:
        refused = await socket.ask(**message)

    assert refused["error"]["code"] == "bad_request"
    assert len(json.dumps(refused)) < 1_000


async def test_compression_is_declined() -> None:
    offer = {"sec-websocket-extensions": "permessage-deflate"}
    async with (
        open_simulated() as service,
        service.request("GET", "/v1/ws", headers=HANDSHAKE | offer) as client,
    ):
        head = await client.response_head()

    assert head.status == 101
    assert "sec-websocket-extensions" not in head.headers


async def test_a_hundred_sockets_that_are_cut_at_once_leave_nothing() -> None:
    async with nothing_left() as service:
        async with trio.open_nursery() as nursery:
            clients: list[RawClient] = []

            async def read_a_little() -> None:
                async with open_peer(service) as peer:
                    clients.append(peer.client)
                    while len(clients) < 100:
                        await peer.next_frame()
                    peer.client.reset()

            for _ in range(100):
                nursery.start_soon(read_a_little)
        await service.wait_released()


async def test_a_polite_client_closes_and_is_answered() -> None:
    async with nothing_left() as service, open_socket(service) as socket:
        await socket.say(**json.loads(GENERATE))
        await socket.connection.aclose(4321, "bye")

        assert socket.connection.closed
        assert socket.connection.closed.code == 4321
