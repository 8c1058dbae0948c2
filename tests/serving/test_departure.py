"""A client leaves: its request is cancelled at once and nothing of it stays, however it leaves and
whatever it has sent ahead."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.serving.apps import CHUNK, TLS, App, open_app
from tests.support.rawhttp import RawClient, open_client
from trioproxy.serving.server import Server
from trioproxy.testing import TaskCensus

SEEN_WITHIN = 0.5
GONE_WITHIN = 1.0

Leave = Callable[[RawClient], None]


def get(path: str) -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: server\r\n\r\n" % path.encode()


WAYS_OF_LEAVING = [
    pytest.param(RawClient.close, id="close"),
    pytest.param(RawClient.half_close, id="half-close"),
    pytest.param(RawClient.reset, id="reset"),
]
SENT_AHEAD = [
    pytest.param(b"", b"", id="plain"),
    pytest.param(b"\r\n", b"", id="stray CRLF"),
    pytest.param(get("/echo"), b"", id="pipelined"),
    pytest.param(b"", get("/echo"), id="pipelined later"),
]


async def wait_gone(app: App, server: Server) -> None:
    """Wait until the application has seen the departure, and the server has let go."""
    with trio.fail_after(SEEN_WITHIN):
        await app.cancelled.wait()
    with trio.fail_after(GONE_WITHIN):
        await server.wait_closed()


async def leave_a_stream(
    app: App,
    server: Server,
    leave: Leave,
    path: str,
    with_request: bytes,
    later: bytes,
    ssl_context: ssl.SSLContext | None = None,
) -> None:
    """Read the beginning of a stream, leave, and see that nothing stays."""
    with TaskCensus() as census:
        async with open_client(server.binds[0], ssl_context=ssl_context) as client:
            await client.send(get(path) + with_request)
            await client.response_head()
            assert await client.chunk() == CHUNK
            await client.send(later)
            await wait_all_tasks_blocked()

            leave(client)

            await wait_gone(app, server)
        await census.settled(GONE_WITHIN)


@pytest.mark.parametrize(("with_request", "later"), SENT_AHEAD)
@pytest.mark.parametrize("path", ["/busy", "/quiet"])
@pytest.mark.parametrize("leave", WAYS_OF_LEAVING)
async def test_departure_from_a_stream_is_seen_and_leaves_nothing(
    app: App, leave: Leave, path: str, with_request: bytes, later: bytes
) -> None:
    async with open_app(app) as server:
        await leave_a_stream(app, server, leave, path, with_request, later)

    assert [f"GET {path}"] == app.requests


async def test_a_half_closing_client_of_1_0_is_not_left_to_think_that_it_read_it_all(
    app: App,
) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.send(b"GET /quiet HTTP/1.0\r\nHost: server\r\n\r\n")
        await client.response_head()

        client.half_close()

        await client.body()
        assert not client.ended_properly  # its framing is the end of the connection


@pytest.mark.parametrize(("with_request", "later"), SENT_AHEAD)
@pytest.mark.parametrize("path", ["/busy", "/quiet"])
@pytest.mark.parametrize("leave", [WAYS_OF_LEAVING[0], WAYS_OF_LEAVING[2]])
async def test_departure_from_a_stream_over_tls_is_seen_and_leaves_nothing(
    app: App, tls: TLS, leave: Leave, path: str, with_request: bytes, later: bytes
) -> None:
    async with open_app(app, tls=tls) as server:
        await leave_a_stream(app, server, leave, path, with_request, later, ssl_context=tls.client)

    assert [f"GET {path}"] == app.requests


@pytest.mark.parametrize("with_request", [b"", b"\r\n", get("/echo")])
@pytest.mark.parametrize("leave", WAYS_OF_LEAVING)
async def test_departure_before_the_head_is_seen_and_leaves_nothing(
    app: App, leave: Leave, with_request: bytes
) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(get("/thinking") + with_request)
                await wait_all_tasks_blocked()

                leave(client)

                await wait_gone(app, server)
            await census.settled(GONE_WITHIN)


@pytest.mark.parametrize("leave", WAYS_OF_LEAVING)
@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n"]
)
async def test_departure_before_the_request_is_whole_leaves_nothing(
    app: App, leave: Leave, sent: bytes
) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(sent)
                await wait_all_tasks_blocked()
                assert len(server.connections) == 1

                leave(client)

                with trio.fail_after(GONE_WITHIN):
                    await server.wait_closed()
            await census.settled(GONE_WITHIN)

    assert app.requests == []


async def test_departure_in_the_middle_of_the_body_is_seen_and_leaves_nothing(app: App) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request("POST", "/echo", headers={"content-length": "9"}, body=b"half")
                await wait_all_tasks_blocked()

                client.close()

                await wait_gone(app, server)
            await census.settled(GONE_WITHIN)

    assert app.requests == ["POST /echo"]


async def test_one_departure_disturbs_nobody_else(app: App) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as stays:
        await stays.send(get("/quiet"))
        await stays.response_head()
        async with open_client(server.binds[0]) as leaves:
            await leaves.send(get("/busy"))
            await leaves.response_head()
        with trio.fail_after(SEEN_WITHIN):
            await app.cancelled.wait()

        assert await stays.chunk() == CHUNK
        with pytest.raises(trio.TooSlowError):
            await stays.chunk(within=0.05)
        assert len(server.connections) == 1
