"""An endpoint is to a server what its non-blocking socket of the kernel is: each is held to the
same."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import AsyncGenerator, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.testing.networks import ABORT
from trioproxy.net import KernelSocket, Socket
from trioproxy.testing.network import Endpoint, VirtualNetwork

Pair = tuple[Socket, Socket]


def _pair_of_the_kernel() -> Pair:
    with stdlib_socket.create_server(("127.0.0.1", 0)) as listener:
        near = stdlib_socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return KernelSocket(near.detach()), KernelSocket(far.detach())


def _pair_of_endpoints() -> Pair:
    network = VirtualNetwork()
    arrived: list[Endpoint] = []
    network.listen(network.bind("127.0.0.1", 80), arrived.append)
    near = network.connect("127.0.0.1", 80)
    return near, arrived[0]


@pytest.fixture(params=[_pair_of_the_kernel, _pair_of_endpoints], ids=["kernel", "virtual"])
async def pair(request: pytest.FixtureRequest) -> AsyncGenerator[Pair]:
    make: Callable[[], Pair] = request.param
    near, far = make()
    yield near, far
    near.close()
    far.close()


def _fill(socket: Socket) -> None:
    """Raises :exc:`BlockingIOError` where there is no room any more."""
    while True:
        socket.send(memoryview(bytes(1_000_000)))


async def test_what_is_sent_is_there(pair: Pair) -> None:
    near, far = pair

    sent = near.send(memoryview(b"bytes"))

    await far.wait_readable()
    assert (sent, far.recv(100)) == (5, b"bytes")


async def test_receiving_does_not_wait(pair: Pair) -> None:
    near, _ = pair

    with pytest.raises(BlockingIOError):
        near.recv(100)


async def test_sending_does_not_wait(pair: Pair) -> None:
    near, _ = pair

    sent = near.send(memoryview(bytes(20_000_000)))

    assert 0 < sent < 20_000_000
    with pytest.raises(BlockingIOError):
        _fill(near)


async def test_addresses_are_those_of_both_ends(pair: Pair) -> None:
    near, far = pair

    assert near.getsockname() == far.getpeername()
    assert near.getpeername() == far.getsockname()
    assert near.family == far.family == stdlib_socket.AF_INET


async def test_a_closed_one_has_no_descriptor_and_cannot_be_used(pair: Pair) -> None:
    near, _ = pair
    was_open = near.fileno() >= 0

    near.close()
    near.close()

    assert (was_open, near.fileno()) == (True, -1)
    for operation in (lambda: near.send(memoryview(b"a")), lambda: near.recv(1)):
        with pytest.raises(OSError, match="Bad file descriptor"):
            operation()


async def test_a_reset_is_told_to_the_other_end(pair: Pair) -> None:
    near, far = pair

    near.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT)
    near.close()

    await far.wait_readable()
    with pytest.raises(ConnectionResetError):
        far.recv(1)


async def test_a_half_close_is_told_to_the_other_end(pair: Pair) -> None:
    near, far = pair

    near.shutdown(stdlib_socket.SHUT_WR)

    await far.wait_readable()
    assert (far.recv(1), far.send(memoryview(b"a"))) == (b"", 1)


@pytest.mark.parametrize("kind", ["readable", "writable"])
async def test_closing_sends_away_who_waits(pair: Pair, kind: str) -> None:
    near, _ = pair
    with pytest.raises(BlockingIOError):
        _fill(near)

    async def wait_to_be_sent_away() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await (near.wait_readable() if kind == "readable" else near.wait_writable())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_to_be_sent_away)
        await wait_all_tasks_blocked()

        near.close()


@pytest.mark.parametrize("kind", ["readable", "writable"])
async def test_one_task_at_a_time_waits(pair: Pair, kind: str) -> None:
    near, _ = pair
    with pytest.raises(BlockingIOError):
        _fill(near)
    refused = 0

    async def wait_or_be_refused() -> None:
        nonlocal refused
        try:
            await (near.wait_readable() if kind == "readable" else near.wait_writable())
        except trio.BusyResourceError:
            refused += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_or_be_refused)
        nursery.start_soon(wait_or_be_refused)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert refused == 1
