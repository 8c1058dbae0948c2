"""Shutting down: nobody new, time for what runs, a word for the rest, and an end that no client can
put off."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.serving.apps import TLS, App, open_app
from tests.serving.proxies import BACKLOG, ENDLESS, PATH, STREAM, open_simulated, read_events
from tests.support.rawhttp import RawClient, open_client, post_stream
from trioproxy.fanout import COMPLETED, cancelled
from trioproxy.serving import proxy as proxy_module
from trioproxy.testing import TaskCensus

DRAIN = 1.0
FAREWELL = 0.3
PROMPTLY = 1.0
"""How much longer than its bounds a shutdown may take."""

SMALL_BUFFER = 4096


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "FAREWELL_SECONDS", FAREWELL)


async def wait_refused(url: str) -> None:
    """Wait until nobody is let in any more."""
    address = urlsplit(url)
    with trio.fail_after(PROMPTLY):
        while True:
            try:
                stream = await trio.open_tcp_stream(str(address.hostname), address.port or 0)
            except OSError:
                return
            await stream.aclose()


@asynccontextmanager
async def stuck_client(url: str) -> AsyncGenerator[RawClient]:
    """A client that asked for a large answer and reads no more than its head."""
    async with open_client(url, rcvbuf=SMALL_BUFFER) as client:
        body = b'{"prompt": "The river", "stream": true}'
        await client.request("POST", PATH, headers=BACKLOG, body=body)
        await client.response_head()
        yield client


async def test_shutdown_refuses_then_drains_then_tells_then_kills() -> None:
    record: list[str] = []
    ends_in_the_drain = {"x-sim-tokens": "20", "x-sim-rate": "50"}

    async def knock() -> None:
        await wait_refused(url)
        record.append("new client refused")

    async def finish() -> None:
        events = await read_events(finishing)
        assert events[-1].data == b"[DONE]"
        assert finishing.ended_properly
        record.append("stream finished")

    async def be_told() -> None:
        *_, failure, done = await read_events(endless)
        assert b'"shutting_down"' in failure.data
        assert done.data == b"[DONE]"
        assert endless.ended_properly
        record.append("stream told")

    async def be_killed() -> None:
        with trio.fail_after(DRAIN + FAREWELL + PROMPTLY):
            await proxy.server.wait_closed()
        record.append("stuck client killed")

    async def shut_down() -> None:
        with trio.fail_after(DRAIN + FAREWELL + PROMPTLY):
            await proxy.shutdown()

    async with open_simulated(drain=DRAIN, upstream_keep_alive=0.0) as (proxy, engine):
        with TaskCensus() as census:
            url = proxy.binds[0]
            async with (
                post_stream(url, PATH, STREAM, ends_in_the_drain) as finishing,
                post_stream(url, PATH, STREAM, ENDLESS) as endless,
            ):
                finishing_generation, endless_generation = proxy.hub.running
                async with stuck_client(url) as stuck:
                    await engine.wait_until(lambda stats: stats.calls == 3)

                    async with trio.open_nursery() as nursery:
                        for watch in (knock, finish, be_told, be_killed, shut_down):
                            nursery.start_soon(watch)

                    await stuck.body()
                    assert not stuck.ended_properly
                    assert await stuck.wait_closed() == "reset"
            await census.settled()

        assert finishing_generation.outcome == COMPLETED
        assert endless_generation.outcome == cancelled("shutdown")
        assert list(proxy.hub.running) == []
        assert engine.stats.active == 0
    assert record == [
        "new client refused",
        "stream finished",
        "stream told",
        "stuck client killed",
    ]


async def test_generation_that_nobody_reads_is_drained_and_then_cancelled() -> None:
    async with open_simulated(drain=0.2) as (proxy, engine):
        async with open_client(proxy.binds[0]) as client:
            body = b'{"path": "%s", "body": {"prompt": "x"}}' % PATH.encode()
            await client.request("POST", "/v1/generations", headers=ENDLESS, body=body)
            assert (await client.response_head()).status == 201
        await engine.wait_until(lambda stats: stats.active == 1)
        [generation] = proxy.hub.running

        with trio.fail_after(0.2 + FAREWELL + PROMPTLY):
            await proxy.shutdown()
            await engine.wait_until(lambda stats: stats.active == 0)

        assert generation.outcome == cancelled("shutdown")
        assert engine.stats.aborted == 1


async def test_request_for_tokens_during_the_drain_is_turned_away() -> None:
    head_of_request = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n"
    async with (
        open_simulated(drain=DRAIN) as (proxy, engine),
        trio.open_nursery() as nursery,
        post_stream(proxy.binds[0], PATH, STREAM, {"x-sim-tokens": "40"}) as finishing,
        open_client(proxy.binds[0]) as late,
    ):
        await late.send(head_of_request % PATH.encode())
        await wait_all_tasks_blocked()
        nursery.start_soon(proxy.shutdown)
        await proxy.hub.wait_draining()
        await late.send(b'{"prompt": "x"}')

        head = await late.response_head()

        assert (head.status, head.headers["connection"]) == (503, "close")
        assert b'"shutting_down"' in await late.body()
        assert engine.stats.calls == 1
        assert (await read_events(finishing))[-1].data == b"[DONE]"


async def test_idle_connections_do_not_delay_the_shutdown() -> None:
    async with open_simulated(drain=math.inf) as (proxy, _):
        with TaskCensus() as census:
            async with AsyncExitStack() as stack:
                clients = [
                    await stack.enter_async_context(open_client(proxy.binds[0])) for _ in range(10)
                ]
                for client in clients[:5]:
                    await client.request("GET", "/healthz")
                    await client.response_head()
                    await client.body()
                await wait_all_tasks_blocked()
                assert len(proxy.server.connections) == 10

                with trio.fail_after(PROMPTLY):
                    await proxy.shutdown()

                for client in clients:
                    assert await client.wait_closed() == "fin"
            await census.settled()


async def test_unfinished_tls_handshake_does_not_delay_the_shutdown(app: App, tls: TLS) -> None:
    async with (
        open_app(app, tls=tls) as server,
        open_client(server.binds[0].replace("https", "http")),
    ):
        await wait_all_tasks_blocked()
        assert len(server.connections) == 1

        with trio.fail_after(PROMPTLY):
            await server.stop_listening()
            await server.wait_closed()


@pytest.mark.parametrize("ticks", range(5))
async def test_client_that_comes_with_the_shutdown_does_not_delay_it(app: App, ticks: int) -> None:
    async with open_app(app) as server:
        address = urlsplit(server.binds[0])
        with socket.create_connection((address.hostname, address.port)):
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            await server.stop_listening()
            await wait_all_tasks_blocked()

            with trio.fail_after(PROMPTLY):
                await server.wait_closed()


async def test_head_that_is_half_sent_does_not_delay_the_shutdown(app: App) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.send(b"GET /brief HT")
        await wait_all_tasks_blocked()

        with trio.fail_after(PROMPTLY):
            await server.stop_listening()
            await server.wait_closed()


async def test_shutdown_that_is_cut_short_leaves_the_rest_to_the_exit() -> None:
    with TaskCensus() as census:
        async with AsyncExitStack() as clients:
            async with open_simulated(drain=math.inf) as (proxy, engine):
                url = proxy.binds[0]
                endless = await clients.enter_async_context(post_stream(url, PATH, STREAM, ENDLESS))
                stuck = await clients.enter_async_context(stuck_client(url))
                await engine.wait_until(lambda stats: stats.calls == 2)
                with trio.move_on_after(0.05) as patience:
                    await proxy.shutdown()
                assert patience.cancelled_caught
                assert len(proxy.server.connections) == 2
                left_at = trio.current_time()
            assert trio.current_time() - left_at < PROMPTLY

            await endless.body()
            await stuck.body()
            assert (endless.ended_properly, stuck.ended_properly) == (False, False)
            assert await stuck.wait_closed() == "reset"
        await census.settled()
