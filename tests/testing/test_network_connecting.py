"""Addresses, listeners and clients: on the kernel's network and on the virtual one."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.socket import SocketType

from tests.testing.networks import (
    ABORT,
    ANY_PORT,
    Network,
    connect_to,
    on_both_networks,
    open_listener,
    open_pair,
    outcome,
    receive_all,
)


@on_both_networks
async def test_both_ends_know_both_addresses(network: Network) -> None:
    async with open_listener(network) as listener:
        with await connect_to(listener) as near:
            far, client = await listener.accept()
            with far:
                assert near.getpeername() == far.getsockname() == listener.getsockname()
                assert near.getsockname() == far.getpeername() == client
                assert client[0] == "127.0.0.1"
                assert client[1] > 0


@on_both_networks
async def test_clients_are_accepted_in_the_order_in_which_they_came(network: Network) -> None:
    async with open_listener(network) as listener:
        clients = [await connect_to(listener) for _ in range(5)]
        accepted = [await listener.accept() for _ in clients]

        assert [client.getsockname() for client in clients] == [client for _, client in accepted]
        for socket in [*clients, *(server for server, _ in accepted)]:
            socket.close()


@on_both_networks
async def test_a_client_can_say_all_it_has_before_it_is_accepted(network: Network) -> None:
    async with open_listener(network) as listener:
        with await connect_to(listener) as client:
            await client.send(b"hello and goodbye")

        server, _ = await listener.accept()

        with server:
            assert await receive_all(server) == b"hello and goodbye"


@on_both_networks
async def test_a_client_that_reset_before_it_was_accepted_is_accepted_and_found_reset(
    network: Network,
) -> None:
    async with open_listener(network) as listener:
        client = await connect_to(listener)
        client.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT)
        address = client.getsockname()
        client.close()

        server, accepted = await listener.accept()

        with server:
            assert accepted == address
            assert await outcome(lambda: server.recv(1)) == "ECONNRESET"


@on_both_networks
async def test_connecting_is_refused_where_nobody_listens(network: Network) -> None:
    async with open_listener(network) as listener:
        address = listener.getsockname()
        listener.close()

        with trio.socket.socket() as client:
            assert await outcome(lambda: client.connect(address)) == "ECONNREFUSED"


@on_both_networks
async def test_connecting_is_refused_where_a_socket_is_bound_but_does_not_listen(
    network: Network,
) -> None:
    with network(), trio.socket.socket() as server, trio.socket.socket() as client:
        await server.bind(ANY_PORT)

        assert await outcome(lambda: client.connect(server.getsockname())) == "ECONNREFUSED"


@on_both_networks
async def test_port_0_is_a_free_port(network: Network) -> None:
    with network(), trio.socket.socket() as one, trio.socket.socket() as other:
        await one.bind(ANY_PORT)
        await other.bind(ANY_PORT)

        ports = {one.getsockname()[1], other.getsockname()[1]}

        assert (len(ports), 0 in ports) == (2, False)


@on_both_networks
@pytest.mark.parametrize("listens", [True, False], ids=["listening", "bound"])
async def test_an_address_in_use_cannot_be_bound(network: Network, listens: bool) -> None:
    with network(), trio.socket.socket() as first, trio.socket.socket() as second:
        await first.bind(ANY_PORT)
        if listens:
            first.listen()

        assert await outcome(lambda: second.bind(first.getsockname())) == "EADDRINUSE"


@on_both_networks
@pytest.mark.parametrize("listens", [True, False], ids=["listening", "bound"])
async def test_an_address_is_free_again_once_its_socket_is_closed(
    network: Network, listens: bool
) -> None:
    with network(), trio.socket.socket() as first, trio.socket.socket() as second:
        await first.bind(ANY_PORT)
        address = first.getsockname()
        if listens:
            first.listen()
        first.close()

        await second.bind(address)

        assert second.getsockname() == address


@on_both_networks
async def test_listening_without_an_address_takes_a_free_one(network: Network) -> None:
    with network(), trio.socket.socket() as listener, trio.socket.socket() as client:
        before = listener.getsockname()
        listener.listen()
        host, port = listener.getsockname()

        await client.connect(("127.0.0.1", port))

        assert (before, host) == (("0.0.0.0", 0), "0.0.0.0")
        assert client.getpeername() == ("127.0.0.1", port)


@on_both_networks
async def test_listening_twice_keeps_who_waits(network: Network) -> None:
    async with open_listener(network) as listener:
        with await connect_to(listener) as client:
            listener.listen()

            server, address = await listener.accept()

            server.close()
            assert address == client.getsockname()


@on_both_networks
async def test_only_a_listening_socket_says_that_it_listens(network: Network) -> None:
    async with open_pair(network) as (near, _):
        with trio.socket.socket() as listener:
            await listener.bind(ANY_PORT)
            says = [_says_that_it_listens(listener)]
            listener.listen()
            says += [_says_that_it_listens(listener), _says_that_it_listens(near)]

    assert says == [False, True, False]


def _says_that_it_listens(socket: SocketType) -> bool:
    return bool(socket.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN))


@on_both_networks
async def test_a_client_connects_from_where_it_is_bound(network: Network) -> None:
    async with open_listener(network) as listener:
        with trio.socket.socket() as client:
            await client.bind(ANY_PORT)
            address = client.getsockname()

            await client.connect(listener.getsockname())

            server, accepted = await listener.accept()
            server.close()
            assert client.getsockname() == accepted == address


@on_both_networks
async def test_accepted_connections_have_the_options_of_their_listener(network: Network) -> None:
    async with open_listener(network) as listener:
        listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT)
        with await connect_to(listener) as client:
            server, _ = await listener.accept()

            server.close()

            assert await outcome(lambda: client.recv(1)) == "ECONNRESET"


Operation = Callable[[SocketType], Any]


@on_both_networks
@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda socket: socket.recv(1), "ENOTCONN"),
        (lambda socket: socket.send(b"a"), "EPIPE"),
        (lambda socket: socket.getpeername(), "ENOTCONN"),
        (lambda socket: socket.shutdown(stdlib_socket.SHUT_WR), "ENOTCONN"),
        (lambda socket: socket.accept(), "EINVAL"),
    ],
    ids=["recv", "send", "getpeername", "shutdown", "accept"],
)
async def test_a_fresh_socket_is_neither_connected_nor_listening(
    network: Network, operation: Operation, error: str
) -> None:
    with network(), trio.socket.socket() as socket:
        assert await outcome(lambda: operation(socket)) == error


@on_both_networks
@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda socket: socket.bind(ANY_PORT), "EINVAL"),
        (lambda socket: socket.connect(("127.0.0.1", 1)), "EISCONN"),
        (lambda socket: socket.recv(1), "ENOTCONN"),
        (lambda socket: socket.send(b"a"), "EPIPE"),
        (lambda socket: socket.getpeername(), "ENOTCONN"),
    ],
    ids=["bind", "connect", "recv", "send", "getpeername"],
)
async def test_a_listening_socket_only_listens(
    network: Network, operation: Operation, error: str
) -> None:
    async with open_listener(network) as listener:
        assert await outcome(lambda: operation(listener)) == error
        assert _says_that_it_listens(listener)


@on_both_networks
@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda socket: socket.bind(ANY_PORT), "EINVAL"),
        (lambda socket: socket.connect(("127.0.0.1", 1)), "EISCONN"),
        (lambda socket: socket.listen(), "EINVAL"),
        (lambda socket: socket.accept(), "EINVAL"),
    ],
    ids=["bind", "connect", "listen", "accept"],
)
async def test_a_connected_socket_stays_with_its_connection(
    network: Network, operation: Operation, error: str
) -> None:
    async with open_pair(network) as (near, far):
        assert await outcome(lambda: operation(far)) == error

        await near.send(b"as before")

        assert await far.recv(100) == b"as before"


@on_both_networks
async def test_a_bound_socket_cannot_be_bound_again(network: Network) -> None:
    with network(), trio.socket.socket() as socket:
        await socket.bind(ANY_PORT)
        address = socket.getsockname()

        assert await outcome(lambda: socket.bind(ANY_PORT)) == "EINVAL"
        assert socket.getsockname() == address


@on_both_networks
async def test_names_are_resolved(network: Network) -> None:
    with network(), trio.socket.socket() as listener, trio.socket.socket() as client:
        await listener.bind(("localhost", 0))
        listener.listen()
        host, port = listener.getsockname()

        await client.connect(("localhost", port))

        assert (host, client.getpeername()) == ("127.0.0.1", ("127.0.0.1", port))


@on_both_networks
async def test_a_listener_on_every_address_takes_who_comes_to_one(network: Network) -> None:
    with network(), trio.socket.socket() as listener, trio.socket.socket() as client:
        await listener.bind(("", 0))
        listener.listen()
        host, port = listener.getsockname()

        await client.connect(("127.0.0.1", port))
        server, _ = await listener.accept()

        with server:
            assert (host, server.getsockname()) == ("0.0.0.0", ("127.0.0.1", port))


@on_both_networks
async def test_a_socket_is_described_as_a_stream_over_ipv4(network: Network) -> None:
    async with open_pair(network) as (near, far):
        for socket in (near, far):
            assert socket.family == stdlib_socket.AF_INET
            assert socket.type == stdlib_socket.SOCK_STREAM
            assert socket.fileno() > 0
