"""The whole proxy over the wire: of a stream nothing is lost, nothing cuts it, and nothing is
started in vain."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
import trio
from hypercorn.config import Config

from tests.serving.apps import TLS
from tests.serving.proxies import ENDLESS, PATH, STREAM, open_simulated, read_events
from tests.support.app import make_app
from tests.support.rawhttp import open_client, post_stream
from tests.support.source import ScriptedSource
from trioproxy.config import Settings
from trioproxy.fanout import open_hub
from trioproxy.serving import open_proxy
from trioproxy.serving import proxy as proxy_module
from trioproxy.serving.listening import listen
from trioproxy.serving.server import open_server
from trioproxy.simulator import EngineSettings, open_engine
from trioproxy.testing import TaskCensus
from trioproxy.upstream import Head, Upstream, open_roster

TOKENS = [b'{"choices":[{"text":"%d"}]}' % number for number in range(500)]
BURST = b"".join(b"data: %s\n\n" % token for token in [*TOKENS, b"[DONE]"])


@asynccontextmanager
async def upstream_that_answers(body: bytes) -> AsyncGenerator[str]:
    """An engine that sends head and body in one write, and closes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(head % len(body) + body)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        yield "http://{}:{}".format(*listener.socket.getsockname())
        nursery.cancel_scope.cancel()


async def test_burst_reaches_a_healthy_reader_whole() -> None:
    async with (
        upstream_that_answers(BURST) as url,
        open_proxy(Settings(bind="127.0.0.1:0"), upstream_url=url) as proxy,
        post_stream(proxy.binds[0], PATH, STREAM) as client,
    ):
        events = await read_events(client)

        assert client.ended_properly
    assert [event.data for event in events] == [*TOKENS, b"[DONE]"]
    assert [int(str(event.id).rpartition(":")[2]) for event in events] == [*range(1, 502)]


@pytest.mark.parametrize(("response_timeout", "is_whole"), [(None, True), (0.15, False)])
async def test_stream_outlives_the_frameworks_response_timeout(
    response_timeout: float | None, is_whole: bool
) -> None:
    async with (
        open_engine(settings=EngineSettings(rate=50, tokens=20, ttft=0)) as engine,
        open_roster(Settings(), upstream_url=engine.url) as roster,
        open_hub() as hub,
    ):
        app = make_app(Settings(), hub, roster)
        assert app.config["RESPONSE_TIMEOUT"] is None
        app.config["RESPONSE_TIMEOUT"] = response_timeout
        config = Config()
        config.bind = ["127.0.0.1:0"]
        async with (
            open_server(app, config, partial(listen, config, write_timeout=30)) as server,
            post_stream(server.binds[0], PATH, STREAM) as client,
        ):
            body = await client.body()

            assert (client.ended_properly, b"[DONE]" in body) == (is_whole, is_whole)


async def test_head_on_the_stream_of_a_generation_reads_none_of_it() -> None:
    async with open_simulated() as (proxy, engine):
        async with post_stream(proxy.binds[0], PATH, STREAM, ENDLESS) as reader:
            [generation] = proxy.hub.running
            async with open_client(proxy.binds[0]) as client:
                for _ in range(2):
                    await client.request("HEAD", f"/v1/generations/{generation.id}/events")
                    head = await client.response_head(within=1)

                    assert head.status == 200
                    assert head.headers["content-type"].startswith("text/event-stream")
                    assert await client.body(within=1) == b""
                    assert client.ended_properly
                    assert len(generation.subscribers) == 1
            assert await reader.next_event() is not None
        assert engine.stats.calls == 1


async def test_head_on_a_route_for_tokens_starts_no_call() -> None:
    async with open_simulated() as (proxy, engine), open_client(proxy.binds[0]) as client:
        await client.request("HEAD", PATH)

        assert (await client.response_head(within=1)).status == 405
        assert await client.body(within=1) == b""
        assert engine.stats.calls == 0
        assert proxy.roster.open_calls == 0


@pytest.mark.parametrize("headers", [{}, ENDLESS | {"x-sim-fail": "before"}])
async def test_proxys_connection_is_closed_on_time_after_a_stream(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "KEEP_ALIVE_SECONDS", 0.2)
    engine = EngineSettings(rate=0, ttft=0)
    async with open_simulated(engine, upstream_keep_alive=0.0) as (proxy, _):
        with TaskCensus() as census:
            async with open_client(proxy.binds[0]) as client:
                await client.request(
                    "POST", PATH, headers=headers, body=b'{"prompt":"x","stream":true}'
                )
                await client.response_head()
                await client.body()
                ended_at = trio.current_time()

                assert client.ended_properly
                assert await client.wait_closed(within=1) == "fin"
                assert trio.current_time() - ended_at > 0.1
            await census.settled()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", b""),
        ("GET", "/healthz", b""),
        ("POST", PATH, b'{"prompt": "x", "stream": true}'),
        ("POST", PATH, b'{"prompt": "x"}'),
        ("POST", PATH, b"no JSON"),
        ("GET", "/nowhere", b""),
    ],
)
async def test_requests_follow_each_other_on_one_connection(
    method: str, path: str, body: bytes
) -> None:
    async with (
        open_simulated(EngineSettings(rate=0, ttft=0, tokens=2)) as (proxy, _),
        open_client(proxy.binds[0]) as client,
    ):
        for _ in range(30):
            await client.request(method, path, body=body)
            head = await client.response_head()
            await client.body()

            assert client.ended_properly
            assert "connection" not in head.headers


@pytest.mark.parametrize(("size", "status"), [(60_000, 200), (200_000, 431)])
async def test_head_of_a_request_is_bounded(size: int, status: int) -> None:
    async with open_simulated() as (proxy, _), open_client(proxy.binds[0]) as client:
        await client.request("GET", "/healthz", headers={"x-large": "x" * size})

        assert (await client.response_head()).status == status


async def test_http1_is_negotiated_where_http2_is_offered(tls: TLS) -> None:
    async with open_simulated(certfile=tls.certfile, keyfile=tls.keyfile) as (proxy, _):
        address = urlsplit(proxy.binds[0])
        stream = await trio.open_ssl_over_tcp_stream(
            str(address.hostname), address.port or 0, https_compatible=True, ssl_context=tls.client
        )
        async with stream:
            await stream.do_handshake()

            assert stream.selected_alpn_protocol() == "http/1.1"

        async with open_client(proxy.binds[0], ssl_context=tls.client) as client:
            await client.request("GET", "/healthz")
            assert (await client.response_head()).status == 200


async def crash() -> NoReturn:
    raise ValueError("a defect of the source")


def crashing_before_the_head() -> ScriptedSource:
    return ScriptedSource(entering=crash)


def crashing_after_the_head() -> ScriptedSource:
    source = ScriptedSource(head=Head(200, []))
    source.fail(ValueError("a defect of the source"))
    return source


@pytest.mark.parametrize(
    ("make_source", "status"), [(crashing_before_the_head, 500), (crashing_after_the_head, 200)]
)
async def test_crash_of_one_generation_is_told_and_the_next_one_starts(
    make_source: Callable[[], ScriptedSource], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*_: object) -> ScriptedSource:
        return make_source()

    body = b'{"prompt": "x", "stream": true}'
    async with (
        open_simulated(EngineSettings(rate=0, ttft=0, tokens=2)) as (proxy, engine),
        open_client(proxy.binds[0]) as client,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Upstream, "stream", make)
            await client.request("POST", PATH, body=body)
            head = await client.response_head()

            assert (head.status, b'"internal_error"' in await client.body()) == (status, True)
            assert client.ended_properly

        await client.request("POST", PATH, body=body)
        await client.response_head()

        assert (await read_events(client))[-1].data == b"[DONE]"
        assert (engine.stats.calls, engine.stats.completed) == (1, 1)
        assert list(proxy.hub.running) == []
