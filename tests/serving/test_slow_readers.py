"""A client that takes no byte for the write timeout is cut off; one that reads slowly, but reads,
never is."""

from __future__ import annotations

import math
import socket

import pytest
import trio
from hypercorn.config import Config

from tests.serving.apps import CHUNK, TLS, App, Exchange, open_app
from tests.support.rawhttp import open_client
from trioproxy.serving.listening import listen
from trioproxy.testing import TaskCensus

WRITE_TIMEOUT = 0.2
FREED_WITHIN = 1.0
"""Beyond the write timeout: the kernel must have filled its buffers before any byte is refused."""

SMALL_BUFFER = 4096
BACKLOG = bytes(1024 * 1024)
LAST_CHUNK = b"0\r\n\r\n"
PAUSE = 0.002
"""Between two reads of a slow client, each of which finds some kilobytes."""


@pytest.fixture(params=["with TCP_USER_TIMEOUT", "without"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has a timeout of its own, either would be enough."""
    if request.param == "without":
        monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)


@pytest.mark.usefixtures("kernel")
async def test_client_that_never_reads_is_freed_within_the_write_timeout(app: App) -> None:
    await _see_a_stuck_client_freed(app)


@pytest.mark.usefixtures("kernel")
async def test_client_that_never_reads_is_freed_over_tls_too(app: App, tls: TLS) -> None:
    await _see_a_stuck_client_freed(app, tls)


async def _see_a_stuck_client_freed(app: App, tls: TLS | None = None) -> None:
    async with open_app(app, write_timeout=WRITE_TIMEOUT, tls=tls) as server:
        with TaskCensus() as census:
            async with open_client(
                server.binds[0], ssl_context=tls and tls.client, rcvbuf=SMALL_BUFFER
            ) as client:
                await client.request("GET", "/flood")

                with trio.fail_after(WRITE_TIMEOUT + FREED_WITHIN):
                    await app.cancelled.wait()
                    await server.wait_closed()

                assert await client.wait_closed() == "reset"
            await census.settled()


async def test_stuck_client_delays_nobody_else(app: App) -> None:
    async with (
        open_app(app) as server,
        open_client(server.binds[0], rcvbuf=SMALL_BUFFER) as stuck,
        open_client(server.binds[0]) as healthy,
    ):
        await stuck.request("GET", "/flood")
        await stuck.response_head()

        for number in range(20):
            await healthy.request("POST", "/echo", body=b"%d" % number)
            await healthy.response_head(within=FREED_WITHIN)
            assert b"%d" % number == await healthy.body(within=FREED_WITHIN)


@pytest.mark.usefixtures("kernel")
async def test_slow_but_steady_reader_is_not_cut() -> None:
    written_in = math.inf

    async def send_backlog(exchange: Exchange) -> None:
        nonlocal written_in
        await exchange.start()
        started = trio.current_time()
        await exchange.write(BACKLOG)
        written_in = trio.current_time() - started
        await exchange.finish()

    async with (
        open_app(App({"/": send_backlog}), write_timeout=WRITE_TIMEOUT) as server,
        open_client(server.binds[0], rcvbuf=SMALL_BUFFER) as client,
    ):
        await client.request("GET", "/")
        await client.response_head()

        received = bytearray()
        with trio.fail_after(20 * WRITE_TIMEOUT):
            while not received.endswith(LAST_CHUNK):
                received += await client.read_some()
                await trio.sleep(PAUSE)

    assert received.count(0) == len(BACKLOG)
    assert 2 * WRITE_TIMEOUT < written_in < math.inf, "the kernel took it all: nothing was shown"


async def test_cancelled_write_kills_the_socket() -> None:
    gave_up = trio.Event()

    async def give_up(exchange: Exchange) -> None:
        await exchange.start()
        with trio.move_on_after(WRITE_TIMEOUT) as patience:
            while True:
                await exchange.write(bytes(65536))
        assert patience.cancelled_caught
        gave_up.set()
        await exchange.finish()

    async with open_app(App({"/": give_up})) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0], rcvbuf=SMALL_BUFFER) as client:
                await client.request("GET", "/")
                await client.response_head()
                with trio.fail_after(WRITE_TIMEOUT + FREED_WITHIN):
                    await gave_up.wait()
                    await server.wait_closed()

                await client.body()

                assert not client.ended_properly
                assert await client.wait_closed() == "reset"
            await census.settled()


async def test_write_timeout_can_be_switched_off(app: App) -> None:
    async with (
        open_app(app, write_timeout=math.inf) as server,
        open_client(server.binds[0]) as client,
    ):
        await client.request("GET", "/brief")
        await client.response_head()

        assert await client.body() == 3 * CHUNK


async def test_kernel_ends_connections_whose_peer_has_vanished() -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    [listener] = listen(config, write_timeout=2.5)
    async with listener:
        keepalive = listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        user_timeout = listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

    assert (keepalive, user_timeout) == (1, 2500)
