"""HTTP/1.1 as clients really speak it (RFC 9112): framing, old versions, nonsense, and attempts at
HTTP/2."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.serving.apps import CHUNK, TLS, App, Exchange, open_app
from tests.support.rawhttp import RawClient, open_client
from trioproxy.testing import TaskCensus

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""RFC 9113, section 3.4, with an empty SETTINGS frame."""

H2C = {"upgrade": "h2c", "connection": "Upgrade, HTTP2-Settings", "http2-settings": "AAMAAABk"}
"""RFC 7540, section 3.2."""


async def assert_still_answers(url: str) -> None:
    async with open_client(url) as client:
        await client.request("GET", "/brief")
        assert (await client.response_head()).status == 200
        assert await client.body() == 3 * CHUNK


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="a TLS hello"),
        pytest.param(b"what is this?\r\n\r\n", 400, id="no request line"),
        pytest.param(b"GET /brief HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(
            b"GET /brief HTTP/1.1\r\nHost: a\r\n b\x00\r\n\r\n", 400, id="NUL in a header"
        ),
        pytest.param(b"GET /brief HTTP/3.7\r\nHost: a\r\n\r\n", 505, id="unheard-of version"),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, id="bad length"
        ),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: zip\r\n\r\n", 501, id="coding"
        ),
        pytest.param(
            b"GET /brief HTTP/1.1\r\nX-Long: " + b"x" * 100_000, 431, id="head without end"
        ),
        pytest.param(
            b"GET /brief HTTP/1.1\r\nHost: a\r\nX-Long: %s\r\n\r\n" % (b"x" * 100_000),
            431,
            id="too large head",
        ),
    ],
)
async def test_garbage_is_refused_and_contained(app: App, garbage: bytes, status: int) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(garbage)

                head = await client.response_head()

                assert head.status == status
                assert head.headers["connection"] == "close"
                assert await client.wait_closed() == "fin"
            await census.settled()

        assert app.requests == []
        await assert_still_answers(server.binds[0])


async def test_bad_chunk_is_refused_and_the_application_told() -> None:
    told = trio.Event()

    async def take_all(exchange: Exchange) -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass
        told.set()

    async with open_app(App({"/": take_all})) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                await wait_all_tasks_blocked()
                await client.send(b"this is no chunk\r\n")

                assert (await client.response_head()).status == 400
                with trio.fail_after(0.5):
                    await told.wait()
                assert await client.wait_closed() == "fin"
            await census.settled()


async def test_bad_chunk_under_a_stream_cuts_it(app: App) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(
                    b"POST /quiet HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                await client.response_head()
                assert await client.chunk() == CHUNK

                await client.send(b"this is no chunk\r\n")

                assert await client.body() == b""
                assert not client.ended_properly
            with trio.fail_after(1):
                await app.cancelled.wait()
            await census.settled()


async def test_expectation_of_100_continue_is_met_before_the_body_comes(app: App) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.request(
            "POST", "/echo", headers={"expect": "100-continue", "content-length": "4"}
        )
        interim = await client.read_some()
        await client.send(b"body")

        head = await client.response_head()

        assert interim.startswith(b"HTTP/1.1 100 ")
        assert (head.status, await client.body()) == (200, b"body")


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
async def test_body_for_a_client_of_1_0_ends_with_the_connection(
    app: App, connection: bytes
) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(b"GET /brief HTTP/1.0\r\n%s\r\n" % connection)
                head = await client.response_head()

                assert await client.body() == 3 * CHUNK
                assert client.ended_properly
            await census.settled()

    assert "transfer-encoding" not in head.headers
    assert head.headers["connection"] == "close"


async def test_connection_is_closed_where_the_client_asks_for_it(app: App) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.request("GET", "/brief", headers={"connection": "close"})
        head = await client.response_head()

        assert await client.body() == 3 * CHUNK
        assert client.ended_properly
        assert head.headers["connection"] == "close"
        assert await client.wait_closed() == "fin"


async def test_answer_to_head_has_no_body_and_leaves_the_connection_open(app: App) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        for _ in range(2):
            await client.request("HEAD", "/brief")
            assert (await client.response_head()).status == 200
            assert await client.body() == b""
        with pytest.raises(trio.TooSlowError):
            await client.wait_closed(within=0.05)


async def test_body_reaches_the_application_whole_however_it_is_cut() -> None:
    body = bytes(range(256)) * 1024
    received = b""

    async def keep(exchange: Exchange) -> None:
        nonlocal received
        received = await exchange.body()
        await exchange.respond(204)

    async with (
        open_app(App({"/": keep})) as server,
        open_client(server.binds[0]) as client,
    ):
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 50_000):
            part = body[start : start + 50_000]
            await client.send(b"%x\r\n%s\r\n" % (len(part), part))
        await client.send(b"0\r\n\r\n")

        assert (await client.response_head()).status == 204
    assert received == body


# -- HTTP/2 ----------------------------------------------------------------------------------------


async def assert_preface_is_refused(client: RawClient) -> None:
    await client.send(PREFACE)
    head = await client.response_head()
    assert (head.status, head.headers["connection"]) == (505, "close")
    assert await client.body() == b""
    assert await client.wait_closed() == "fin"


async def test_preface_of_http2_is_refused(app: App) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await assert_preface_is_refused(client)
            await census.settled()
        await assert_still_answers(server.binds[0])
    assert app.requests == ["GET /brief"]


async def test_preface_of_http2_is_refused_after_a_request_too(app: App) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.request("GET", "/brief")
        await client.response_head()
        await client.body()

        await assert_preface_is_refused(client)


async def test_upgrade_to_http2_is_answered_in_http1(app: App) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request("GET", "/brief", headers=H2C)
                head = await client.response_head()

                assert (head.status, await client.body()) == (200, 3 * CHUNK)
                assert client.ended_properly
                assert "upgrade" not in head.headers
            await census.settled()
        await assert_still_answers(server.binds[0])


async def test_departure_after_an_upgrade_to_http2_was_asked_for_is_seen(app: App) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request("GET", "/quiet", headers=H2C)
                await client.response_head()
                client.close()

                with trio.fail_after(0.5):
                    await app.cancelled.wait()
            await census.settled()


async def test_preface_of_http2_over_tls_is_refused(app: App, tls: TLS) -> None:
    async with open_app(app, tls=tls) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0], ssl_context=tls.client) as client:
                await assert_preface_is_refused(client)
            await census.settled()
        async with open_client(server.binds[0], ssl_context=tls.client) as client:
            await client.request("GET", "/brief")
            assert (await client.response_head()).status == 200
