"""Tasks that wait on sockets, and what becomes of them: on the kernel's network and on the virtual
one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.socket import SocketType
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.testing.networks import (
    ANY_PORT,
    WITHIN,
    Network,
    connect_to,
    fill,
    hold_little,
    on_both_networks,
    open_listener,
    open_pair,
    receive,
    wait_readable,
)

NOBODY = ("127.0.0.1", 1)
"""An address at which nobody listens."""

Operation = Callable[[SocketType], Awaitable[Any]]

OPERATIONS: list[tuple[str, Operation]] = [
    ("recv", lambda socket: socket.recv(1)),
    ("send", lambda socket: socket.send(b"more")),
    ("wait_writable", lambda socket: socket.wait_writable()),
    ("accept", lambda socket: socket.accept()),
]

on_every_operation_that_waits = pytest.mark.parametrize(
    ("kind", "operation"), OPERATIONS, ids=[kind for kind, _ in OPERATIONS]
)


class Stage:
    """A listener, both ends of one connection, and of these the one on which an operation waits."""

    def __init__(self, kind: str, listener: SocketType, near: SocketType, far: SocketType) -> None:
        self.listener = listener
        self.near = near
        self.far = far
        self.socket = listener if kind == "accept" else near


async def _with_stage(
    network: Network, kind: str, play: Callable[[Stage], Awaitable[None]]
) -> None:
    async with open_listener(network) as listener:
        with await connect_to(listener) as near:
            far, _ = await listener.accept()
            with far:
                if kind in ("send", "wait_writable"):
                    hold_little(near, far)
                    await fill(near)
                await play(Stage(kind, listener, near, far))


@on_both_networks
@on_every_operation_that_waits
async def test_closing_a_socket_sends_away_who_waits_on_it(
    network: Network, kind: str, operation: Operation
) -> None:
    async def wait_to_be_sent_away(socket: SocketType) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await operation(socket)

    async def play(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_to_be_sent_away, stage.socket)
            await wait_all_tasks_blocked()

            stage.socket.close()

    await _with_stage(network, kind, play)


@on_both_networks
@on_every_operation_that_waits
@pytest.mark.parametrize("when", ["in the same step", "later"])
async def test_one_task_at_a_time_waits_for_the_same(
    network: Network, kind: str, operation: Operation, when: str
) -> None:
    refused = 0

    async def wait_or_be_refused(socket: SocketType) -> None:
        nonlocal refused
        try:
            await operation(socket)
        except trio.BusyResourceError:
            refused += 1

    async def play(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_or_be_refused, stage.socket)
            if when == "later":
                await wait_all_tasks_blocked()
            nursery.start_soon(wait_or_be_refused, stage.socket)
            await wait_all_tasks_blocked()

            assert refused == 1
            nursery.cancel_scope.cancel()

    await _with_stage(network, kind, play)


@on_both_networks
@on_every_operation_that_waits
async def test_waiting_in_a_cancelled_scope_ends_at_once(
    network: Network, kind: str, operation: Operation
) -> None:
    async def play(stage: Stage) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await operation(stage.socket)

        assert scope.cancelled_caught

    await _with_stage(network, kind, play)


@on_both_networks
async def test_a_receiver_who_is_cancelled_takes_nothing(network: Network) -> None:
    async with open_pair(network) as (near, far):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 100)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await far.send(b"for the next")
        await wait_readable(near)
        with trio.CancelScope() as scope:
            scope.cancel()
            await near.recv(100)

        assert await near.recv(100) == b"for the next"


@on_both_networks
async def test_a_sender_who_is_cancelled_sends_nothing(network: Network) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)
        with trio.CancelScope() as scope:
            scope.cancel()
            await near.send(b"never")
        filled = await fill(near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send, b"never")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

        near.close()

        assert await receive(far, filled + 1) == bytes(filled)


@on_both_networks
async def test_an_acceptor_who_is_cancelled_takes_nobody(network: Network) -> None:
    async with open_listener(network) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.accept)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with await connect_to(listener) as client:
            with trio.CancelScope() as scope:
                scope.cancel()
                await listener.accept()

            server, address = await listener.accept()

            server.close()
            assert address == client.getsockname()


@on_both_networks
async def test_a_client_who_is_cancelled_before_it_connects_is_closed_and_nobody_comes(
    network: Network,
) -> None:
    async with open_listener(network) as listener:
        client = trio.socket.socket()
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.connect(listener.getsockname())

        assert (scope.cancelled_caught, client.fileno()) == (True, -1)
        assert not listener.is_readable()


@on_both_networks
async def test_a_receiver_is_woken_by_bytes(network: Network) -> None:
    async with open_pair(network) as (near, far):
        received: list[bytes] = []

        async def receive_one() -> None:
            received.append(await near.recv(100))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_one)
            await wait_all_tasks_blocked()
            assert received == []

            await far.send(b"wake up")

        assert received == [b"wake up"]


@on_both_networks
async def test_a_sender_is_woken_by_room(network: Network) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)
        filled = await fill(near)
        sent: list[int] = []

        async def send_one() -> None:
            sent.append(await near.send(b"!"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_one)
            await wait_all_tasks_blocked()
            assert sent == []

            received = await receive(far, filled)

        assert sent == [1]
        assert received + await far.recv(100) == bytes(filled) + b"!"


@on_both_networks
async def test_an_acceptor_is_woken_by_a_client(network: Network) -> None:
    async with open_listener(network) as listener:
        accepted: list[Any] = []

        async def accept_one() -> None:
            server, address = await listener.accept()
            server.close()
            accepted.append(address)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_one)
            await wait_all_tasks_blocked()
            assert accepted == []

            client = await connect_to(listener)

        with client:
            assert accepted == [client.getsockname()]


@on_both_networks
async def test_one_task_may_wait_to_receive_while_another_waits_to_send(network: Network) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)
        filled = await fill(near)
        done: set[str] = set()

        async def send_one() -> None:
            await near.send(b"!")
            done.add("sent")

        async def receive_one() -> None:
            await near.recv(1)
            done.add("received")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_one)
            nursery.start_soon(receive_one)
            await wait_all_tasks_blocked()
            assert done == set()

            await far.send(b"!")
            await receive(far, filled)

        assert done == {"received", "sent"}


@on_both_networks
async def test_a_socket_says_whether_it_is_readable(network: Network) -> None:
    async with open_pair(network) as (near, far):
        says = [near.is_readable()]
        await far.send(b"bytes")
        await wait_readable(near)
        says.append(near.is_readable())
        await near.recv(100)
        says.append(near.is_readable())
        far.close()
        await wait_readable(near)
        says.append(near.is_readable())

    assert says == [False, True, False, True]


@on_both_networks
async def test_a_listener_says_whether_somebody_has_come(network: Network) -> None:
    async with open_listener(network) as listener:
        says = [listener.is_readable()]
        with await connect_to(listener):
            says.append(listener.is_readable())

    assert says == [False, True]


@on_both_networks
@pytest.mark.parametrize(
    "operation",
    [
        lambda socket: socket.recv(1),
        lambda socket: socket.send(b"a"),
        lambda socket: socket.accept(),
        lambda socket: socket.connect(NOBODY),
    ],
    ids=["recv", "send", "accept", "connect"],
)
async def test_an_operation_that_fails_is_a_checkpoint(
    network: Network, operation: Operation
) -> None:
    fails = pytest.raises(OSError, match=r"\[Errno")
    with network(), trio.socket.socket() as fresh, assert_checkpoints(), fails:
        await operation(fresh)


@on_both_networks
async def test_an_operation_that_need_not_wait_is_a_checkpoint(network: Network) -> None:
    with network(), trio.fail_after(WITHIN):
        listener, near = trio.socket.socket(), trio.socket.socket()
        with assert_checkpoints():
            await listener.bind(ANY_PORT)
        listener.listen()
        with listener, near:
            with assert_checkpoints():
                await near.connect(listener.getsockname())
            with assert_checkpoints():
                far, _ = await listener.accept()
            with far:
                with assert_checkpoints():
                    await near.send(b"bytes")
                await wait_readable(far)
                with assert_checkpoints():
                    await far.recv(100)
                with assert_checkpoints():
                    await far.wait_writable()
