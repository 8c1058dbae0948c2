"""The two networks that a program can run on, and what tests do with sockets on either."""

from __future__ import annotations

import errno
import socket as stdlib_socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import pytest
import trio
from trio.socket import SocketType
from trio.testing import wait_all_tasks_blocked

from trioproxy.testing.network import VirtualNetwork, VirtualSocket

WITHIN = 10.0
"""Seconds that a test with sockets may take: far more than any needs."""

ANY_PORT = ("127.0.0.1", 0)
ABORT = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds

Network = Callable[[], AbstractContextManager[object]]

on_both_networks = pytest.mark.parametrize(
    "network", [pytest.param(nullcontext, id="kernel"), pytest.param(VirtualNetwork, id="virtual")]
)
"""The kernel says what is right: what is said of the virtual network is said of it first."""


@asynccontextmanager
async def open_listener(network: Network) -> AsyncGenerator[SocketType]:
    """A socket that listens, for a test that must be over in time."""
    with network(), trio.fail_after(WITHIN), trio.socket.socket() as listener:
        await listener.bind(ANY_PORT)
        listener.listen()
        yield listener


@asynccontextmanager
async def open_pair(network: Network) -> AsyncGenerator[tuple[SocketType, SocketType]]:
    """Both ends of a connection: who connected, and who accepted."""
    async with open_listener(network) as listener:
        with await connect_to(listener) as near:
            far, _ = await listener.accept()
            with far:
                yield near, far


async def connect_to(listener: SocketType) -> SocketType:
    socket = trio.socket.socket()
    await socket.connect(listener.getsockname())
    return socket


def hold_little(*sockets: SocketType) -> None:
    """Have the kernel's buffers fill up soon (to those of the virtual network it does nothing)."""
    for socket in sockets:
        for option in (stdlib_socket.SO_SNDBUF, stdlib_socket.SO_RCVBUF):
            socket.setsockopt(stdlib_socket.SOL_SOCKET, option, 16 * 1024)


async def fill(socket: SocketType) -> int:
    """Send until there is no room for a byte more. The number of bytes that were taken."""
    sent = 0

    async def send_on() -> None:
        nonlocal sent
        while True:
            sent += await socket.send(bytes(1024))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_on)
        await wait_all_tasks_blocked(cushion=0.01)
        nursery.cancel_scope.cancel()
    return sent


async def receive(socket: SocketType, count: int) -> bytes:
    """So many bytes, or fewer if the other side ends before."""
    received = bytearray()
    while len(received) < count and (data := await socket.recv(count - len(received))):
        received += data
    return bytes(received)


async def receive_all(socket: SocketType) -> bytes:
    """Every byte up to the end of the other side."""
    received = bytearray()
    while data := await socket.recv(65536):
        received += data
    return bytes(received)


async def wait_readable(socket: SocketType) -> None:
    if isinstance(socket, VirtualSocket):
        await socket.endpoint.wait_readable()
    else:
        await trio.lowlevel.wait_readable(socket.fileno())


async def outcome_of_waiting(
    operation: Callable[[], Awaitable[Any]], then: Callable[[], Any | Awaitable[Any]]
) -> Any:
    """The outcome of an operation that waits when ``then`` is done."""
    told: list[Any] = []

    async def wait() -> None:
        told.append(await outcome(operation))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not told, "it did not wait"

        await outcome(then)
    return told[0]


async def outcome(operation: Callable[[], Any | Awaitable[Any]]) -> Any:
    """What it returns, or the name of the error that it fails with."""
    try:
        result = operation()
        return await result if isinstance(result, Awaitable) else result
    except OSError as error:
        return errno.errorcode[error.errno or 0]
