"""From one process to the next: who comes while the one goes is answered, by either."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import trio
from hypercorn.config import Config
from trio.testing import wait_all_tasks_blocked

from tests.serving.apps import CHUNK, TLS, App, open_app
from tests.serving.proxies import PATH, open_simulated, read_events
from tests.support.rawhttp import RawClient, open_client
from trioproxy.config import Gateway, Settings, TenantEntry
from trioproxy.gateway import hash_key
from trioproxy.serving import Proxy, connection, open_proxy
from trioproxy.serving.inherited import listen_on_inherited, take_inherited
from trioproxy.serving.listener import KernelListener
from trioproxy.serving.listening import listen
from trioproxy.serving.server import Server, open_server
from trioproxy.serving.shared_port import PASS, attach_filter
from trioproxy.web.places import Alone, Placed

PROMPTLY = 1.0
DROP_WHAT_IS_NO_SYN = [(0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, PASS), (0x06, 0, 0, 0)]
NOWHERE = "http://127.0.0.1:1"
REQUEST = b"GET /brief HTTP/1.1\r\nHost: server\r\n\r\n"


async def assert_answered_last(client: RawClient) -> None:
    """The answer is whole, and says that it is the last on its connection."""
    head = await client.response_head()
    assert (head.status, head.headers["connection"]) == (200, "close")
    assert await client.body() == 3 * CHUNK
    assert client.ended_properly


async def stop(server: Server) -> None:
    with trio.fail_after(PROMPTLY):
        await server.stop_listening()


# -- the last call ---------------------------------------------------------------------------------


@pytest.mark.parametrize("over_tls", [False, True])
async def test_client_that_waits_to_be_accepted_is_served(
    app: App, tls: TLS, over_tls: bool
) -> None:
    async with open_app(app, tls=tls if over_tls else None) as server, trio.open_nursery() as tasks:
        context = tls.client if over_tls else None
        address = urlsplit(server.binds[0])
        with socket.create_connection((address.hostname, address.port)) as early:
            tasks.start_soon(stop, server)  # in the next step, and the client has got in
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(early.dup()))
            if context is None:
                client = RawClient(stream)
            else:
                over = trio.SSLStream(
                    stream, context, server_hostname=address.hostname, https_compatible=True
                )
                await over.do_handshake()
                client = RawClient(over)
            await client.request("GET", "/brief")

            await assert_answered_last(client)
            client.close()


class DeafListener(KernelListener):
    """One that does not get round to accepting anybody."""

    async def accept(self) -> NoReturn:
        await trio.sleep_forever()


async def test_client_that_nobody_got_round_to_accept_is_served(app: App) -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]

    def listen_badly() -> list[KernelListener]:
        [listener] = listen(config, write_timeout=30)
        return [DeafListener(listener.socket, write_timeout=30)]

    async with (
        open_server(app, config, listen_badly) as server,  # pyright: ignore[reportArgumentType]
        open_client(server.binds[0]) as client,
    ):
        await client.request("GET", "/brief")
        await stop(server)

        await assert_answered_last(client)


@pytest.mark.parametrize("sent_before", [b"", REQUEST[:12]])
async def test_request_that_is_on_its_way_when_the_server_goes_is_answered(
    app: App, sent_before: bytes
) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.request("GET", "/brief")
        await client.response_head()
        await client.body()
        await client.send(sent_before)
        await wait_all_tasks_blocked()

        await stop(server)
        await client.send(REQUEST[len(sent_before) :])

        await assert_answered_last(client)
        assert await client.wait_closed() == "fin"
    assert app.requests == ["GET /brief"] * 2


async def test_call_that_is_on_its_way_when_the_proxy_goes_is_made() -> None:
    async with (
        open_simulated(drain=5.0) as (proxy, engine),
        open_client(proxy.binds[0]) as client,
        trio.open_nursery() as tasks,
    ):
        await wait_all_tasks_blocked()
        tasks.start_soon(proxy.shutdown)
        await wait_all_tasks_blocked()
        body = b'{"prompt": "The river", "stream": true}'
        await client.request("POST", PATH, headers={"x-sim-tokens": "4"}, body=body)
        head = await client.response_head()
        events = await read_events(client)

    assert (head.status, head.headers["connection"]) == (200, "close")
    assert events[-1].data == b"[DONE]"
    assert (engine.stats.calls, engine.stats.aborted) == (1, 0)


async def test_call_that_comes_at_the_last_moment_is_made_though_it_takes_time_to_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @asynccontextmanager
    async def place_slowly(*_: object, is_read: bool) -> AsyncGenerator[Placed]:
        await trio.sleep(0.2)
        yield Placed(None)

    monkeypatch.setattr(Alone, "place", place_slowly)
    async with (
        open_simulated(drain=5.0) as (proxy, _),
        open_client(proxy.binds[0]) as client,
        trio.open_nursery() as tasks,
    ):
        await wait_all_tasks_blocked()
        tasks.start_soon(proxy.shutdown)
        await trio.sleep(connection.LAST_CALL_SECONDS - 0.1)
        await client.request("POST", PATH, body=b'{"prompt": "x", "max_tokens": 1}')

        assert (await client.response_head()).status == 200
        assert b'"text"' in await client.body()


async def test_for_the_length_of_the_delay_newcomers_are_served() -> None:
    async with (
        open_simulated(drain=5.0, drain_delay=0.3) as (proxy, _),
        open_client(proxy.binds[0]) as busy,
        trio.open_nursery() as tasks,
    ):
        url = proxy.binds[0]
        tasks.start_soon(proxy.shutdown)
        await wait_all_tasks_blocked()
        statuses: list[tuple[int, str | None]] = []
        async with open_client(url) as newcomer:
            for client in (busy, newcomer):
                await client.request("POST", PATH, body=b'{"prompt": "x", "max_tokens": 1}')
                head = await client.response_head()
                await client.body()
                statuses.append((head.status, head.headers.get("connection")))

        assert proxy.server.is_draining
    assert statuses == [(200, "close")] * 2


@pytest.mark.parametrize("over_tls", [False, True])
async def test_newcomer_has_its_time_until_the_server_listens_no_more(
    app: App, tls: TLS, monkeypatch: pytest.MonkeyPatch, over_tls: bool
) -> None:
    monkeypatch.setattr(connection, "LAST_CALL_SECONDS", 0.05)
    context = tls.client if over_tls else None
    async with open_app(app, tls=tls if over_tls else None, keep_alive_timeout=60) as server:
        await server.announce_end()
        async with open_client(server.binds[0], ssl_context=context) as client:
            await wait_all_tasks_blocked()
            with trio.move_on_after(0.2):
                await server.wait_closed()
            await client.request("GET", "/brief")

            await assert_answered_last(client)


async def test_client_that_shakes_hands_after_the_last_call_and_is_silent_is_closed(
    app: App, tls: TLS
) -> None:
    async with open_app(app, tls=tls, keep_alive_timeout=60) as server:
        address = urlsplit(server.binds[0])
        async with await trio.open_tcp_stream(str(address.hostname), address.port or 0) as stream:
            await wait_all_tasks_blocked()
            await stop(server)
            over = trio.SSLStream(stream, tls.client, server_hostname=address.hostname)
            await over.do_handshake()

            with trio.fail_after(PROMPTLY):
                await server.wait_closed()


# -- one port for two ------------------------------------------------------------------------------


def listen_beside(port: int) -> KernelListener:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    [listener] = listen(config, write_timeout=30, reuse_port=True)
    return listener


async def test_a_port_is_shared_with_who_is_let() -> None:
    settings = Settings(bind="127.0.0.1:0", reuse_port=True)
    async with open_proxy(settings, upstream_url=NOWHERE) as first:
        bind = first.binds[0].removeprefix("http://")
        async with open_proxy(Settings(bind=bind, reuse_port=True), upstream_url=NOWHERE) as second:
            assert second.binds == first.binds

        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            async with open_proxy(Settings(bind=bind), upstream_url=NOWHERE):
                raise AssertionError("it listens")


async def test_who_turns_newcomers_away_sends_them_to_the_other() -> None:
    """Of 20 clients half would have come to either; the first packet of those is sent twice."""
    went = listen_beside(0)
    port = went.socket.getsockname()[1]
    stays = listen_beside(port)
    streams: list[trio.SocketStream] = []

    async def come() -> None:
        streams.append(await trio.open_tcp_stream("127.0.0.1", port))

    try:
        with trio.fail_after(5):
            async with trio.open_nursery() as tasks:
                went.turn_away()
                for _ in range(20):
                    tasks.start_soon(come)
                await trio.sleep(0.2)
                await went.aclose()
    finally:
        await stays.aclose()
        for stream in [*streams, *went.waiting, *stays.waiting]:
            await stream.aclose()

    assert len(went.waiting) == 0
    assert len(stays.waiting) == 20


async def test_client_whose_handshake_is_under_way_is_served(app: App) -> None:
    """The last packet of it is lost at first, and comes with the request once more."""
    async with open_app(app, reuse_port=True) as server:
        listening = listening_socket(server)
        attach_filter(listening, DROP_WHAT_IS_NO_SYN)
        async with open_client(server.binds[0]) as client:
            await client.request("GET", "/brief")
            await wait_all_tasks_blocked()
            assert len(server.connections) == 0

            await stop(server)

            await assert_answered_last(client)


async def test_where_the_kernel_takes_no_filter_it_stops_all_the_same(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioproxy.serving.shared_port._DROP_SYN", [(0xFFFF, 0, 0, 0)])
    async with open_app(app, reuse_port=True) as server:
        await stop(server)

    assert "may be reset: " in caplog.text


def listening_socket(server: Server) -> socket.socket:
    [listener] = server.listeners
    assert isinstance(listener, KernelListener)
    return listener.socket


# -- sockets that systemd hands over ---------------------------------------------------------------


@pytest.fixture
def handed_over() -> Generator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def take(
    monkeypatch: pytest.MonkeyPatch, sockets: Sequence[socket.socket], **variables: str
) -> tuple[list[socket.socket], dict[str, str]]:
    """What is taken, where these sockets are handed over, and what is left of the environment."""
    first = 700  # nothing is open there
    for fileno, each in enumerate(sockets, first):
        os.dup2(each.fileno(), fileno)
    monkeypatch.setattr("trioproxy.serving.inherited.FIRST", first)
    environ = {
        "PATH": "/bin",
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": "trioproxy.socket",
        **variables,
    }
    return take_inherited(environ), environ


async def test_sockets_that_are_handed_over_are_taken_once(
    monkeypatch: pytest.MonkeyPatch, handed_over: socket.socket
) -> None:
    [taken], environ = take(monkeypatch, [handed_over])

    with taken:
        assert taken.getsockname() == handed_over.getsockname()
        assert not taken.get_inheritable()
    assert environ == {"PATH": "/bin"}
    assert take_inherited(environ) == []


async def test_sockets_for_another_process_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, environ = take(monkeypatch, [], LISTEN_PID="1", LISTEN_FDS="1")

    assert (taken, environ) == ([], {"PATH": "/bin"})


async def test_what_does_not_listen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unheard, pytest.raises(OSError, match="no listening stream socket"):
        take(monkeypatch, [unheard])


def open_on(handed_over: socket.socket, **settings: Any) -> AbstractAsyncContextManager[Proxy]:
    chosen = Settings(**settings)
    listen_on = partial(listen_on_inherited, [handed_over.dup()], chosen)
    return open_proxy(chosen, upstream_url=NOWHERE, listen_on=listen_on)


async def test_who_waits_in_a_socket_that_is_handed_over_waits_for_the_next(
    handed_over: socket.socket,
) -> None:
    async with open_on(handed_over) as first:
        await first.shutdown()
    stream = await trio.open_tcp_stream(*handed_over.getsockname())
    async with stream, open_on(handed_over) as second:
        client = RawClient(stream)
        await client.request("GET", "/healthz")

        assert (await client.response_head()).status == 200
    assert first.binds == second.binds == ["http://{}:{}".format(*handed_over.getsockname())]


async def test_who_is_in_when_it_closes_is_left_for_the_next(handed_over: socket.socket) -> None:
    [listener] = listen_on_inherited([handed_over.dup()], Settings())
    with socket.create_connection(handed_over.getsockname()):
        await listener.aclose()

        handed_over.accept()[0].close()
    assert list(listener.waiting) == []


async def test_what_others_can_reach_needs_tenants_however_it_came() -> None:
    guarded = Gateway(tenants=(TenantEntry(name="a", keys=(hash_key(b"tp-a"),)),))
    refused = pytest.RaisesExc(OSError, match="can be reached by others")
    with socket.create_server(("0.0.0.0", 0)) as handed_over:
        with pytest.RaisesGroup(refused, flatten_subgroups=True):
            async with open_on(handed_over):
                raise AssertionError("it listens")

        async with open_on(handed_over, gateway=guarded) as proxy:
            assert proxy.binds[0].startswith("http://0.0.0.0:")
