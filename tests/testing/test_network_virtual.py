"""What a virtual network offers to a test beyond what the kernel's has."""

from __future__ import annotations

import errno
import socket as stdlib_socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.socket import SocketType
from trio.testing import wait_all_tasks_blocked

from tests.testing.networks import (
    ABORT,
    ANY_PORT,
    connect_to,
    fill,
    open_listener,
    open_pair,
    outcome,
    outcome_of_waiting,
)
from trioproxy.testing import Trial, cancel_at_every_checkpoint
from trioproxy.testing.network import Endpoint, VirtualNetwork, VirtualSocket

FAULT = OSError(errno.EHOSTUNREACH, "no route to host")


class Fault:
    """An ``on_io`` that raises :data:`FAULT` at the next I/O once it is set."""

    def __init__(self) -> None:
        self.is_set = False
        self.seen = 0

    def __call__(self) -> None:
        self.seen += 1
        if self.is_set:
            self.is_set = False
            raise FAULT


def virtual_network(
    *, buffer_bytes: int = 1000, on_io: Callable[[], object] = lambda: None
) -> Callable[[], VirtualNetwork]:
    network = VirtualNetwork(buffer_bytes=buffer_bytes, on_io=on_io)
    return lambda: network


# -- what a connection holds -----------------------------------------------------------------------


async def test_a_connection_holds_so_many_bytes_in_each_direction() -> None:
    async with open_pair(virtual_network(buffer_bytes=1000)) as (near, far):
        assert (await fill(near), await fill(far)) == (1000, 1000)


async def test_a_receive_buffer_of_its_own_is_what_a_socket_holds() -> None:
    async with open_listener(virtual_network(buffer_bytes=1000)) as listener:
        with trio.socket.socket() as near:
            near.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 10)
            await near.connect(listener.getsockname())
            far, _ = await listener.accept()
            with far:
                assert (await fill(near), await fill(far)) == (1000, 10)


async def test_a_larger_receive_buffer_lets_a_sender_go_on() -> None:
    async with open_pair(virtual_network(buffer_bytes=10)) as (near, far):
        await fill(near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send, b"more")
            await wait_all_tasks_blocked()

            far.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 14)

        assert await far.recv(100) == bytes(10) + b"more"


# -- which connections are open --------------------------------------------------------------------


async def test_open_endpoints_are_those_that_nobody_has_closed() -> None:
    network = VirtualNetwork()
    async with open_listener(lambda: network) as listener:
        near = await connect_to(listener)
        far, _ = await listener.accept()
        assert isinstance(near, VirtualSocket)
        assert isinstance(far, VirtualSocket)

        counts = [set(network.open_endpoints) == {near.endpoint, far.endpoint}]
        near.close()
        counts.append(set(network.open_endpoints) == {far.endpoint})
        far.close()

        assert counts == [True, True]
        assert list(network.open_endpoints) == []


async def test_an_end_that_waits_to_be_accepted_is_open_until_its_listener_is_closed() -> None:
    network = VirtualNetwork()
    async with open_listener(lambda: network) as listener:
        client = await connect_to(listener)
        client.close()
        waiting = len(network.open_endpoints)

        listener.close()

        assert (waiting, list(network.open_endpoints)) == (1, [])


async def _connect_and_leave(trial: Trial) -> tuple[VirtualNetwork, SocketType, bool]:
    network = VirtualNetwork()
    with network, trio.socket.socket() as listener:
        await listener.bind(ANY_PORT)
        listener.listen()
        client = trio.socket.socket()
        with trial.target() as scope:
            await client.connect(listener.getsockname())
        is_closed = client.fileno() == -1
        assert is_closed == scope.cancelled_caught
        client.close()
    return network, client, is_closed


def _nothing_is_open(result: tuple[VirtualNetwork, SocketType, bool]) -> None:
    network, _, _ = result
    assert list(network.open_endpoints) == []


def test_a_client_who_is_cancelled_while_connecting_is_closed() -> None:
    points = cancel_at_every_checkpoint(_connect_and_leave, _nothing_is_open)

    assert points == 1


# -- faults ----------------------------------------------------------------------------------------


async def test_every_attempt_to_connect_accept_send_or_receive_is_an_io() -> None:
    fault = Fault()
    seen: list[int] = []
    network = VirtualNetwork(on_io=fault)
    async with open_listener(lambda: network) as listener:
        seen.append(fault.seen)
        near = await connect_to(listener)
        seen.append(fault.seen)
        far, _ = await listener.accept()
        seen.append(fault.seen)
        await near.send(b"bytes")
        seen.append(fault.seen)
        await far.recv(100)
        seen.append(fault.seen)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.recv, 100)
            await wait_all_tasks_blocked()
            seen.append(fault.seen)
            near.close()
        seen.append(fault.seen)
        far.close()

    assert seen == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "operation",
    [lambda socket: socket.recv(1), lambda socket: socket.send(b"a")],
    ids=["recv", "send"],
)
async def test_a_fault_in_a_connection_resets_both_ends(
    operation: Callable[[SocketType], object],
) -> None:
    fault = Fault()
    async with open_pair(virtual_network(on_io=fault)) as (near, far):
        fault.is_set = True

        outcomes = [
            await outcome(lambda: operation(near)),
            await outcome(lambda: near.recv(1)),
            await outcome(lambda: near.send(b"a")),
            await outcome(lambda: far.recv(1)),
            await outcome(lambda: far.send(b"a")),
        ]

    assert outcomes == ["EHOSTUNREACH", b"", "EPIPE", "ECONNRESET", "EPIPE"]


async def test_a_fault_wakes_who_waits_at_the_other_end() -> None:
    fault = Fault()
    async with open_pair(virtual_network(on_io=fault)) as (near, far):

        def send_into_the_fault() -> Awaitable[int]:
            fault.is_set = True
            return near.send(b"a")

        told = await outcome_of_waiting(lambda: far.recv(1), send_into_the_fault)

    assert told == "ECONNRESET"


async def test_a_fault_wakes_who_waits_to_send_at_the_other_end() -> None:
    fault = Fault()
    async with open_pair(virtual_network(on_io=fault)) as (near, far):
        await fill(far)

        def send_into_the_fault() -> Awaitable[int]:
            fault.is_set = True
            return near.send(b"a")

        told = await outcome_of_waiting(lambda: far.send(b"more"), send_into_the_fault)

    assert told == "ECONNRESET"


async def test_what_the_end_that_had_a_fault_does_then_is_not_seen_at_the_other() -> None:
    fault = Fault()
    async with open_pair(virtual_network(on_io=fault)) as (near, far):
        fault.is_set = True
        await outcome(lambda: near.send(b"a"))
        near.close()

        assert await outcome(lambda: far.recv(1)) == "ECONNRESET"


async def test_a_reset_is_told_once_even_if_there_are_two() -> None:
    fault = Fault()
    async with open_pair(virtual_network(on_io=fault)) as (near, far):
        fault.is_set = True
        await outcome(lambda: near.send(b"a"))
        told = [await outcome(lambda: far.recv(1))]
        near.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT)
        near.close()

        told.append(await outcome(lambda: far.recv(1)))

    assert told == ["ECONNRESET", b""]


async def test_a_fault_in_connecting_brings_nobody() -> None:
    fault = Fault()
    async with open_listener(virtual_network(on_io=fault)) as listener:
        fault.is_set = True
        with trio.socket.socket() as client:
            told = await outcome(lambda: client.connect(listener.getsockname()))

            assert (told, listener.is_readable()) == ("EHOSTUNREACH", False)
            assert await outcome(client.getpeername) == "ENOTCONN"


async def test_a_fault_in_accepting_resets_who_would_have_been_accepted() -> None:
    fault = Fault()
    async with open_listener(virtual_network(on_io=fault)) as listener:
        with await connect_to(listener) as first, await connect_to(listener) as second:
            fault.is_set = True
            told = await outcome(listener.accept)

            server, address = await listener.accept()

            server.close()
            assert (told, address) == ("EHOSTUNREACH", second.getsockname())
            assert await outcome(lambda: first.recv(1)) == "ECONNRESET"


async def test_a_fault_in_accepting_where_nobody_waits_harms_nobody() -> None:
    fault = Fault()
    async with open_listener(virtual_network(on_io=fault)) as listener:
        fault.is_set = True
        told = await outcome(listener.accept)
        with await connect_to(listener) as client:
            server, address = await listener.accept()

            server.close()
            assert (told, address) == ("EHOSTUNREACH", client.getsockname())


# -- what it is not --------------------------------------------------------------------------------


async def test_ipv6_is_not_there() -> None:
    with VirtualNetwork():
        (listener,) = await trio.open_tcp_listeners(80)  # on both, where both are there
        async with listener:
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream("::1", 80)


@pytest.mark.parametrize(
    ("family", "type_", "error"),
    [
        (stdlib_socket.AF_INET6, stdlib_socket.SOCK_STREAM, errno.EAFNOSUPPORT),
        (stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM, errno.EAFNOSUPPORT),
        (stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM, errno.ESOCKTNOSUPPORT),
    ],
)
async def test_there_are_only_streams_over_ipv4(family: int, type_: int, error: int) -> None:
    with VirtualNetwork(), pytest.raises(OSError, match="not supported") as raised:
        trio.socket.socket(family, type_)

    assert raised.value.errno == error


@pytest.mark.parametrize(
    "operation",
    [
        lambda socket: socket.recv(1, stdlib_socket.MSG_PEEK),
        lambda socket: socket.send(b"a", stdlib_socket.MSG_OOB),
    ],
    ids=["recv", "send"],
)
async def test_flags_are_refused_rather_than_ignored(
    operation: Callable[[SocketType], object],
) -> None:
    async with open_pair(VirtualNetwork) as (near, far):
        await far.send(b"stays")

        assert await outcome(lambda: operation(near)) == errno.errorcode[errno.EOPNOTSUPP]
        assert await near.recv(100) == b"stays"


# -- its block -------------------------------------------------------------------------------------


async def test_after_its_block_sockets_are_the_kernels_again() -> None:
    are_virtual: list[bool] = []

    def make_socket() -> None:
        with trio.socket.socket() as socket:
            are_virtual.append(isinstance(socket, VirtualSocket))

    def fail_within_the_block() -> None:
        with VirtualNetwork():
            make_socket()
            raise FAULT

    with pytest.raises(OSError, match="no route to host"):
        fail_within_the_block()
    make_socket()

    assert are_virtual == [True, False]


async def test_after_its_block_names_are_resolved_by_the_system_again() -> None:
    with VirtualNetwork():
        assert await trio.socket.getaddrinfo("no.such.name.invalid", 80) != []

    with pytest.raises(stdlib_socket.gaierror):
        await trio.socket.getaddrinfo("no.such.name.invalid", 80)


async def test_a_network_within_a_network_is_another_one() -> None:
    with VirtualNetwork():
        async with (await trio.open_tcp_listeners(80))[0] as outer:
            with VirtualNetwork(), pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream("127.0.0.1", 80)
            async with await trio.open_tcp_stream("127.0.0.1", 80) as stream:
                assert stream.socket.getpeername()[1] == outer.socket.getsockname()[1]


async def test_port_0_is_no_port_that_was_asked_for_by_number() -> None:
    with VirtualNetwork(), trio.socket.socket() as first, trio.socket.socket() as second:
        await first.bind(("127.0.0.1", 49152))
        await second.bind(ANY_PORT)

        assert second.getsockname()[1] == 49153


def test_more_connections_than_there_are_ports_can_come_one_after_the_other() -> None:
    network = VirtualNetwork()
    network.listen(network.bind("127.0.0.1", 80), Endpoint.close)
    ports: set[int] = set()

    for _ in range(2**14 + 1):
        endpoint = network.connect("127.0.0.1", 80)
        ports.add(endpoint.getsockname()[1])
        endpoint.close()

    assert (len(ports), max(ports)) == (2**14, 2**16 - 1)
