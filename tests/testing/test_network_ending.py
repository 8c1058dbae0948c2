"""How connections end, and what each operation says of it afterwards: on the kernel's network and
on the virtual one."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.socket import SocketType

from tests.testing.networks import (
    ABORT,
    Network,
    connect_to,
    fill,
    hold_little,
    on_both_networks,
    open_listener,
    open_pair,
    outcome,
    outcome_of_waiting,
    receive_all,
    wait_readable,
)


def close(far: SocketType) -> None:
    far.close()


def half_close(far: SocketType) -> None:
    far.shutdown(stdlib_socket.SHUT_WR)


def reset(far: SocketType) -> None:
    far.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT)
    far.close()


def half_close_then_reset(far: SocketType) -> None:
    half_close(far)
    reset(far)


def half_close_then_close(far: SocketType) -> None:
    half_close(far)
    far.close()


@on_both_networks
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (close, [b"", b"", 1, "EPIPE", b""]),
        (half_close, [b"", b"", 1, 1, b""]),
        (half_close_then_close, [b"", b"", 1, "EPIPE", b""]),
        (reset, ["ECONNRESET", b"", "EPIPE", "EPIPE", b""]),
        (half_close_then_reset, [b"", b"", "EPIPE", "EPIPE", b""]),
    ],
)
async def test_a_reader_is_told_the_end_of_the_other_side(
    network: Network, end: Callable[[SocketType], None], expected: list[Any]
) -> None:
    async with open_pair(network) as (near, far):
        end(far)
        await wait_readable(near)

        outcomes = [
            await outcome(lambda: near.recv(1)),
            await outcome(lambda: near.recv(1)),
            await outcome(lambda: near.send(b"a")),
            await outcome(lambda: near.send(b"b")),
            await outcome(lambda: near.recv(1)),
        ]

    assert outcomes == expected


@on_both_networks
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (close, [1, "EPIPE", "EPIPE", b"", b""]),
        (half_close, [1, 1, 1, b"", b""]),
        (half_close_then_close, [1, "EPIPE", "EPIPE", b"", b""]),
        (reset, ["ECONNRESET", "EPIPE", "EPIPE", b"", b""]),
        (half_close_then_reset, ["EPIPE", "EPIPE", "EPIPE", b"", b""]),
    ],
)
async def test_a_writer_is_told_the_end_of_the_other_side(
    network: Network, end: Callable[[SocketType], None], expected: list[Any]
) -> None:
    async with open_pair(network) as (near, far):
        end(far)
        await wait_readable(near)

        outcomes = [
            await outcome(lambda: near.send(b"a")),
            await outcome(lambda: near.send(b"b")),
            await outcome(lambda: near.send(b"c")),
            await outcome(lambda: near.recv(1)),
            await outcome(lambda: near.recv(1)),
        ]

    assert outcomes == expected


@on_both_networks
@pytest.mark.parametrize(
    ("end", "afterwards"),
    [(close, b""), (half_close, b""), (reset, "ECONNRESET"), (half_close_then_reset, b"")],
)
async def test_what_was_sent_before_the_end_is_read_before_it(
    network: Network, end: Callable[[SocketType], None], afterwards: Any
) -> None:
    async with open_pair(network) as (near, far):
        await far.send(b"last words")
        end(far)

        words = await near.recv(100)

        assert (words, await outcome(lambda: near.recv(1))) == (b"last words", afterwards)


@on_both_networks
async def test_closing_with_bytes_unread_resets_the_connection(network: Network) -> None:
    async with open_pair(network) as (near, far):
        await near.send(b"never read")
        await wait_readable(far)

        far.close()

        assert await outcome(lambda: near.recv(1)) == "ECONNRESET"


@on_both_networks
async def test_closing_after_a_half_close_with_bytes_unread_ends_what_the_other_side_sends(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        half_close(far)
        assert await near.recv(1) == b""
        await near.send(b"never read")
        await wait_readable(far)

        far.close()

        assert await outcome(lambda: near.send(b"more")) == "EPIPE"


@on_both_networks
async def test_after_a_half_close_the_other_side_goes_on_sending(network: Network) -> None:
    async with open_pair(network) as (near, far):
        near.shutdown(stdlib_socket.SHUT_WR)
        assert await far.recv(1) == b""

        await far.send(b"the answer")
        far.close()

        assert await receive_all(near) == b"the answer"


@on_both_networks
async def test_after_a_half_close_of_its_own_a_socket_cannot_send(network: Network) -> None:
    async with open_pair(network) as (near, _):
        before = near.did_shutdown_SHUT_WR
        near.shutdown(stdlib_socket.SHUT_WR)

        assert (before, near.did_shutdown_SHUT_WR) == (False, True)
        assert await outcome(lambda: near.send(b"more")) == "EPIPE"


@on_both_networks
async def test_half_closing_twice_is_half_closing(network: Network) -> None:
    async with open_pair(network) as (near, far):
        near.shutdown(stdlib_socket.SHUT_WR)
        near.shutdown(stdlib_socket.SHUT_WR)

        await far.send(b"still open")

        assert await near.recv(100) == b"still open"


@on_both_networks
async def test_half_closing_answers_the_close_of_the_other_side(network: Network) -> None:
    async with open_pair(network) as (near, far):
        far.close()
        assert await near.recv(1) == b""

        near.shutdown(stdlib_socket.SHUT_WR)

        assert await outcome(lambda: near.shutdown(stdlib_socket.SHUT_WR)) == "ENOTCONN"


@on_both_networks
async def test_shutting_its_own_side_for_reading_ends_it_for_a_reader(network: Network) -> None:
    async with open_pair(network) as (near, far):
        told = await outcome_of_waiting(
            lambda: near.recv(1), lambda: near.shutdown(stdlib_socket.SHUT_RD)
        )

        assert (told, near.did_shutdown_SHUT_WR) == (b"", False)
        await far.send(b"still taken")
        assert await near.recv(100) == b"still taken"


@on_both_networks
async def test_bytes_that_come_after_shutting_both_sides_reset_the_connection(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        near.shutdown(stdlib_socket.SHUT_RDWR)
        ends = [await near.recv(1), await far.recv(1)]

        await far.send(b"too late")

        assert (ends, near.did_shutdown_SHUT_WR) == ([b"", b""], True)
        assert await outcome(lambda: near.recv(1)) == "ECONNRESET"
        assert await outcome(lambda: far.send(b"more")) == "EPIPE"


@on_both_networks
@pytest.mark.parametrize(("end", "told"), [(close, b""), (half_close, b""), (reset, "ECONNRESET")])
async def test_a_reader_who_waits_is_told_the_end_at_once(
    network: Network, end: Callable[[SocketType], None], told: Any
) -> None:
    async with open_pair(network) as (near, far):
        assert await outcome_of_waiting(lambda: near.recv(1), lambda: end(far)) == told


@on_both_networks
async def test_a_writer_who_waits_is_told_of_a_reset(network: Network) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)
        await fill(near)
        close_with_bytes_unread = far.close

        told = await outcome_of_waiting(lambda: near.send(b"more"), close_with_bytes_unread)

        assert told == "ECONNRESET"


@on_both_networks
async def test_a_writer_who_waits_is_told_of_a_half_close_of_its_own_side(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)
        await fill(near)
        told = await outcome_of_waiting(
            lambda: near.send(b"more"), lambda: near.shutdown(stdlib_socket.SHUT_WR)
        )

        assert told == "EPIPE"


@on_both_networks
async def test_of_a_connection_that_is_reset_only_the_near_address_is_known(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        address = near.getsockname()
        reset(far)
        await wait_readable(near)

        assert near.getsockname() == address
        assert await outcome(near.getpeername) == "ENOTCONN"
        assert await outcome(lambda: near.shutdown(stdlib_socket.SHUT_WR)) == "ENOTCONN"


@on_both_networks
async def test_of_a_connection_that_both_sides_ended_only_the_near_address_is_known(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        near.shutdown(stdlib_socket.SHUT_WR)
        address = near.getsockname()
        far.close()
        assert await near.recv(1) == b""

        assert near.getsockname() == address
        assert await outcome(near.getpeername) == "ENOTCONN"


@on_both_networks
async def test_clients_whom_a_listener_has_not_accepted_are_reset_when_it_closes(
    network: Network,
) -> None:
    async with open_listener(network) as listener:
        with await connect_to(listener) as client:
            listener.close()

            assert await outcome(lambda: client.recv(1)) == "ECONNRESET"


@on_both_networks
@pytest.mark.parametrize(
    "operation",
    [
        lambda socket: socket.recv(1),
        lambda socket: socket.send(b"a"),
        lambda socket: socket.accept(),
        lambda socket: socket.bind(("127.0.0.1", 0)),
        lambda socket: socket.connect(("127.0.0.1", 1)),
        lambda socket: socket.listen(),
        lambda socket: socket.shutdown(stdlib_socket.SHUT_WR),
        lambda socket: socket.getsockname(),
        lambda socket: socket.getpeername(),
        lambda socket: socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT),
    ],
    ids=[
        "recv",
        "send",
        "accept",
        "bind",
        "connect",
        "listen",
        "shutdown",
        "getsockname",
        "getpeername",
        "setsockopt",
    ],
)
@pytest.mark.parametrize("was_connected", [True, False], ids=["was connected", "was fresh"])
async def test_nothing_can_be_done_with_a_closed_socket(
    network: Network, was_connected: bool, operation: Callable[[SocketType], Any]
) -> None:
    async with open_pair(network) as (near, _):
        socket = near if was_connected else trio.socket.socket()
        socket.close()
        socket.close()

        assert (socket.fileno(), await outcome(lambda: operation(socket))) == (-1, "EBADF")
