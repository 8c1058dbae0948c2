"""Connections beyond what may be open are told so and closed, and cost the others nothing."""

from __future__ import annotations

import json
import os
import socket
from contextlib import AsyncExitStack, ExitStack
from urllib.parse import urlsplit

import pytest
import trio

from tests.serving.apps import TLS
from tests.serving.proxies import ENDLESS, PATH, STREAM, open_simulated
from tests.support.rawhttp import RawClient, open_client, post_stream
from trioproxy.serving import turnstile
from trioproxy.simulator import EngineSettings

FAST = EngineSettings(rate=0, ttft=0, tokens=4)


async def ask_health(client: RawClient) -> int:
    await client.request("GET", "/healthz")
    status = (await client.response_head()).status
    await client.body()
    return status


async def metrics_of(client: RawClient) -> str:
    await client.request("GET", "/metrics")
    await client.response_head()
    return (await client.body()).decode()


@pytest.mark.parametrize(
    ("settings", "status", "code", "metric"),
    [
        ({"max_connections": 2}, 503, "overloaded", "shed_total"),
        ({"max_address_connections": 2}, 429, "too_many_connections", "rate_limited_total"),
    ],
)
async def test_one_connection_too_many_is_answered_and_closed(
    settings: dict[str, float], status: int, code: str, metric: str
) -> None:
    async with (
        open_simulated(FAST, **settings) as (proxy, _),
        open_client(proxy.binds[0]) as one,
        open_client(proxy.binds[0]) as other,
    ):
        assert [await ask_health(client) for client in (one, other)] == [200, 200]
        async with open_client(proxy.binds[0]) as client:
            await client.request("GET", "/healthz")
            head = await client.response_head()
            error = json.loads(await client.body())["error"]
            await client.wait_closed()
        assert [await ask_health(client) for client in (one, other)] == [200, 200]
        told = await metrics_of(one)

    assert (head.status, head.headers["retry-after"], error["code"]) == (status, "1", code)
    assert f'\ntrioproxy_{metric}{{reason="connections"}} 1.0\n' in told


async def test_another_address_still_gets_in() -> None:
    async with (
        open_simulated(FAST, max_address_connections=1) as (proxy, _),
        open_client(proxy.binds[0]) as client,
        open_client(proxy.binds[0]) as refused,
    ):
        assert await ask_health(client) == 200
        assert (await refused.response_head()).status == 429
        host, port = proxy.binds[0].removeprefix("http://").split(":")
        with trio.socket.socket() as socket, trio.fail_after(5):
            await socket.bind(("127.0.0.2", 0))
            await socket.connect((host, int(port)))
            await socket.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await socket.recv(100)).startswith(b"HTTP/1.1 200 ")


async def test_one_that_left_makes_room_for_another() -> None:
    async with open_simulated(FAST, max_connections=1, max_address_connections=1) as (proxy, _):
        for _ in range(5):
            async with open_client(proxy.binds[0]) as client:
                assert await ask_health(client) == 200
            await proxy.server.wait_closed()


async def test_a_live_stream_goes_on_while_others_are_turned_away() -> None:
    async with (
        open_simulated(max_connections=1) as (proxy, _),
        post_stream(proxy.binds[0], PATH, STREAM, ENDLESS) as live,
    ):
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with AsyncExitStack() as stack:
            for _ in range(150):
                client = await stack.enter_async_context(open_client(proxy.binds[0]))
                assert (await client.response_head()).status == 503
            # The stream has a task more or less as its pump comes and goes.
            assert trio.lowlevel.current_statistics().tasks_living < tasks + 10
        for _ in range(20):
            assert await live.next_event() is not None

        assert len(proxy.server.connections) == 1


@pytest.mark.parametrize("room", [100, 3])
async def test_whoever_is_turned_away_is_closed_soon_whatever_it_does(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(turnstile, "LEAVE_SECONDS", 0.2 if room == 100 else 1000.0)
    monkeypatch.setattr(turnstile, "MAX_LEAVING", room)
    async with (
        open_simulated(FAST, max_connections=1) as (proxy, _),
        open_client(proxy.binds[0]) as first,
        AsyncExitStack() as stack,
    ):
        assert await ask_health(first) == 200
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            client = await stack.enter_async_context(open_client(proxy.binds[0]))
            assert (await client.response_head()).status == 503
        expected = before + 10 + (3 if room == 3 else 0)
        with trio.fail_after(5):
            while len(os.listdir("/proc/self/fd")) != expected:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_over_tls_one_too_many_is_closed(tls: TLS) -> None:
    settings = {"max_connections": 1, "certfile": tls.certfile, "keyfile": tls.keyfile}
    async with (
        open_simulated(FAST, **settings) as (proxy, _),
        open_client(proxy.binds[0], ssl_context=tls.client) as one,
    ):
        assert await ask_health(one) == 200
        host, port = proxy.binds[0].removeprefix("https://").split(":")
        with trio.fail_after(5):
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                assert await stream.receive_some() == b""
        assert await ask_health(one) == 200


async def test_who_is_turned_away_as_all_ends_is_closed() -> None:
    with ExitStack() as stack:
        async with open_simulated(FAST, max_connections=1) as (proxy, _):
            address = urlsplit(proxy.binds[0])
            # Nothing is awaited after they come: they wait in the socket that is closed.
            gets_in, *turned_away = [
                stack.enter_context(socket.create_connection((address.hostname, address.port), 5))
                for _ in range(3)
            ]
        assert gets_in.recv(1) == b""
        for client in turned_away:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
