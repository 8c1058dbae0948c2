"""What goes wrong in one request or one connection stays there, is logged, and can be told from a
success."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import trio
from hypercorn.events import Event, RawData

from tests.serving.apps import ANSWERS, CHUNK, App, Exchange, open_app
from tests.support.rawhttp import RawClient, open_client
from trioproxy.serving.protocol import Http11
from trioproxy.serving.server import Server
from trioproxy.testing import TaskCensus

FATAL = b"GET /fatal "


@pytest.fixture
def defective_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """An HTTP/1.1 that raises where it is handed a request for ``/fatal``."""
    handle = Http11.handle

    async def raise_at_fatal(self: Http11, event: Event) -> None:
        if isinstance(event, RawData) and event.data.startswith(FATAL):
            raise KeyError("a defect of the protocol")
        await handle(self, event)

    monkeypatch.setattr(Http11, "handle", raise_at_fatal)


def assert_logged_once(caplog: pytest.LogCaptureFixture, message: str, defect: str) -> None:
    """See that the server has logged one error, and that it names the defect."""
    [error] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert error.message == message
    assert defect in caplog.text


@pytest.mark.usefixtures("defective_protocol")
async def test_exception_in_one_connection_is_contained_and_logged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as streaming:
        await streaming.request("GET", "/busy")
        await streaming.response_head()
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(FATAL + b"HTTP/1.1\r\nHost: a\r\n\r\n")
                assert await client.wait_closed(within=1) == "fin"

            await census.settled()

        assert_logged_once(caplog, "a connection crashed", "KeyError: 'a defect of the proto")
        assert await streaming.chunk() == CHUNK
        async with open_client(server.binds[0]) as client:
            await client.request("POST", "/echo", body=b"still here")
            assert (await client.response_head()).status == 200
            assert await client.body() == b"still here"


@pytest.mark.usefixtures("defective_protocol")
async def test_exception_in_a_connection_cancels_its_request(app: App) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request("GET", "/quiet")
                await client.response_head()
                await client.send(FATAL)

                with trio.fail_after(1):
                    await app.cancelled.wait()
                await client.body()
                assert not client.ended_properly
            await census.settled()


async def test_crash_before_the_head_is_a_500(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.request("GET", "/crash")
        head = await client.response_head()

        assert (head.status, await client.body()) == (500, b"")
        assert client.ended_properly
        assert_logged_once(caplog, "the application crashed", "a defect of the application")

        async with open_client(server.binds[0]) as other:
            await other.request("GET", "/brief")
            assert (await other.response_head()).status == 200


async def test_application_that_never_answers_is_a_500() -> None:
    async def forget(exchange: Exchange) -> None:
        await exchange.body()

    async with (
        open_app(App({"/": forget})) as server,
        open_client(server.binds[0]) as client,
    ):
        await client.request("GET", "/")

        assert (await client.response_head()).status == 500


async def cut_short(exchange: Exchange) -> None:
    """Less than was promised, and no defect."""
    await exchange.start(headers={"content-length": "1000"})
    await exchange.write(CHUNK)


async def stop_half_way(exchange: Exchange) -> None:
    """A body that is never finished, and no defect."""
    await exchange.start()
    await exchange.write(CHUNK)


BREAKS_OFF = {
    "/crash-in-the-body": ANSWERS["/crash-in-the-body"],
    "/cut-short": cut_short,
    "/stop-half-way": stop_half_way,
}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", BREAKS_OFF)
async def test_body_that_breaks_off_can_be_told_from_one_that_ends(path: str, version: str) -> None:
    async with open_app(App(BREAKS_OFF)) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(f"GET {path} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
                head = await client.response_head()
                assert head.status == 200

                body = await client.body()

                assert not client.ended_properly
                if version == "1.1":
                    assert body == CHUNK
            await census.settled()


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
async def test_crash_on_the_way_out_of_a_departed_request_is_contained(
    caplog: pytest.LogCaptureFixture, leave: Callable[[RawClient], None]
) -> None:
    async def crash_when_cancelled(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.write(CHUNK)
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("a defect in the cleaning up")

    async with open_app(App({**ANSWERS, "/": crash_when_cancelled})) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request("GET", "/")
                await client.response_head()
                await client.chunk()
                leave(client)
                with trio.fail_after(1):
                    await server.wait_closed()
            await census.settled()

        assert_logged_once(caplog, "the application crashed", "a defect in the cleaning up")
        await assert_answers(server)


async def assert_answers(server: Server) -> None:
    async with open_client(server.binds[0]) as client:
        await client.request("GET", "/brief")
        assert (await client.response_head()).status == 200
