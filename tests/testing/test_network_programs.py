"""Programs that know of trio alone, unchanged: on the kernel's network and on the virtual one."""

from __future__ import annotations

import ssl
from functools import cache

import h11
import httpx
import pytest
import trio
import trustme
from trio.testing import open_stream_to_socket_listener

from tests.testing.networks import WITHIN, Network, on_both_networks
from trioproxy.testing.network import VirtualNetwork

BODY = bytes(range(256)) * 2_000


async def _echo(stream: trio.abc.HalfCloseableStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)


async def _answer_in_http(stream: trio.abc.Stream) -> None:
    """Answer each request of a connection with its own body, in chunks."""
    connection = h11.Connection(h11.SERVER)
    parts: list[h11.Event] = []
    async with stream:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Data):
                parts.append(h11.Data(data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                head = h11.Response(status_code=200, headers=[("transfer-encoding", "chunked")])
                for part in (head, *parts, h11.EndOfMessage()):
                    await stream.send_all(connection.send(part) or b"")
                connection.start_next_cycle()
                parts.clear()
            elif isinstance(event, h11.ConnectionClosed):
                return


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


def _server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _authority().issue_cert("engine.test", "127.0.0.1").configure_cert(context)
    return context


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)
    return context


@on_both_networks
async def test_serve_tcp_and_open_tcp_stream(network: Network) -> None:
    with network(), trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            (listener, *_) = await nursery.start(trio.serve_tcp, _echo, 0)
            port = listener.socket.getsockname()[1]
            stream = await trio.open_tcp_stream("localhost", port)
            async with stream:
                await stream.send_all(b"there and back")
                await stream.send_eof()
                echoed = b"".join([data async for data in stream])
            nursery.cancel_scope.cancel()

    assert echoed == b"there and back"


@on_both_networks
async def test_open_tcp_stream_says_that_nobody_listens(network: Network) -> None:
    with network():
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await listener.aclose()

        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


@on_both_networks
async def test_two_servers_cannot_serve_the_same_address(network: Network) -> None:
    with network():
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            port = listener.socket.getsockname()[1]

            with pytest.raises(OSError, match="already in use"):
                await trio.open_tcp_listeners(port, host="127.0.0.1")


@on_both_networks
async def test_httpx_talks_to_a_server_and_uses_its_connection_again(network: Network) -> None:
    async def count_connections(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await _answer_in_http(stream)

    connections = 0
    with network(), trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, count_connections, [listener])
            url = "http://{}:{}/".format(*listener.socket.getsockname())
            async with httpx.AsyncClient(trust_env=False) as client:
                answers = [await client.post(url, content=BODY) for _ in range(3)]
            nursery.cancel_scope.cancel()

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, BODY)] * 3
    assert connections == 1


@on_both_networks
async def test_httpx_talks_tls_to_a_server(network: Network) -> None:
    async def answer_in_tls(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, _server_context(), server_side=True, https_compatible=True)
        await _answer_in_http(tls)

    with network(), trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, answer_in_tls, [listener])
            url = "https://{}:{}/".format(*listener.socket.getsockname())
            async with httpx.AsyncClient(verify=_client_context(), trust_env=False) as client:
                answer = await client.post(url, content=BODY)
            nursery.cancel_scope.cancel()

    assert (answer.status_code, answer.content) == (200, BODY)


@on_both_networks
async def test_tls_is_ended_by_a_farewell(network: Network) -> None:
    async def echo_in_tls(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, _server_context(), server_side=True)
        async with tls:
            async for data in tls:
                await tls.send_all(data)

    with network(), trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, echo_in_tls, [listener])
            stream = await open_stream_to_socket_listener(listener)
            tls = trio.SSLStream(stream, _client_context(), server_hostname="engine.test")
            await tls.send_all(b"there")
            echoed = await tls.receive_some()
            transport, trailing = await tls.unwrap()
            await transport.aclose()
            nursery.cancel_scope.cancel()

    assert (echoed, trailing) == (b"there", b"")


async def test_every_name_is_the_one_host_of_a_virtual_network() -> None:
    with VirtualNetwork():
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, _echo, 80)
            peers: list[object] = []
            for host in ("engine.example", "10.0.0.7", "localhost"):
                async with await trio.open_tcp_stream(host, 80) as stream:
                    peers.append(stream.socket.getpeername())
            nursery.cancel_scope.cancel()

    assert peers == [("127.0.0.1", 80), ("10.0.0.7", 80), ("127.0.0.1", 80)]


async def test_an_address_of_a_virtual_network_has_itself_for_a_name() -> None:
    with VirtualNetwork():
        assert await trio.socket.getnameinfo(("10.0.0.7", 80), 0) == ("10.0.0.7", "80")


async def test_time_on_a_virtual_network_can_be_virtual(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer_after_an_hour(stream: trio.SocketStream) -> None:
        await trio.sleep(3600)
        await stream.send_all(b"at last")

    with VirtualNetwork():
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, answer_after_an_hour, 80)
            async with await trio.open_tcp_stream("slow.example", 80) as stream:
                answer = await stream.receive_some()
            nursery.cancel_scope.cancel()

    assert (answer, trio.current_time() - began) == (b"at last", 3600)
