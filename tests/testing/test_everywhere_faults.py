"""The search with faults: each input and output fails in turn."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.socket import SocketType

from tests.testing.networks import ANY_PORT, outcome
from trioproxy.testing import (
    Trial,
    Violation,
    fail_at_every_io,
)
from trioproxy.testing.network import VirtualNetwork


def host_unreachable() -> OSError:
    return OSError(errno.EHOSTUNREACH, "no route to host")


async def lose_an_error(trial: Trial) -> None:
    with trial.armed(lambda: None):
        await trio.lowlevel.checkpoint()
        try:
            trial.io()
        except OSError:
            return
        trial.io()


def test_each_io_of_the_target_fails_in_turn() -> None:
    runs: list[list[str]] = []

    async def scenario(trial: Trial) -> None:
        done: list[str] = []
        runs.append(done)
        trial.io()
        with trial.armed(lambda: None):
            for name in ("one", "two", "three"):
                try:
                    trial.io()
                except OSError as error:
                    done.append(f"{name}: {error}")
                else:
                    done.append(name)
        trial.io()

    points = fail_at_every_io(scenario, error=host_unreachable)

    assert points == 3
    assert runs == [
        ["one: [Errno 113] no route to host", "two", "three"],
        ["one", "two: [Errno 113] no route to host", "three"],
        ["one", "two", "three: [Errno 113] no route to host"],
        ["one", "two", "three"],
    ]


def test_a_fault_is_not_a_cancellation() -> None:
    struck: list[str] = []

    async def scenario(trial: Trial) -> None:
        with trial.armed(lambda: struck.append("struck")):
            await trio.lowlevel.checkpoint()
            await outcome(trial.io)
            await trio.lowlevel.checkpoint()

    fail_at_every_io(scenario)

    assert struck == []


def test_a_fault_that_is_not_handled_is_told_with_the_calls_that_led_to_it() -> None:
    with pytest.raises(Violation) as raised:
        fail_at_every_io(lose_an_error)

    assert isinstance(raised.value.__cause__, ConnectionResetError)
    assert "at I/O 2, task" in str(raised.value)
    assert "was about to do I/O, and got ConnectionResetError(104, " in str(raised.value)
    assert "in lose_an_error\n    trial.io()\n" in str(raised.value)


async def ask_and_answer(trial: Trial) -> dict[str, list[object]]:
    """A client and a server that note how each of their operations went."""
    notes: dict[str, list[object]] = {"client": [], "server": []}

    async def note(who: str, operation: Callable[[], Awaitable[object]]) -> bool:
        notes[who].append(await outcome(operation))
        return not isinstance(notes[who][-1], str)

    async def serve(listener: SocketType) -> None:
        socket, _ = await listener.accept()
        with socket:
            if await note("server", lambda: socket.recv(100)):
                await note("server", lambda: socket.send(b"answer"))
                await note("server", lambda: socket.recv(100))

    with VirtualNetwork(on_io=trial.io), trio.socket.socket() as listener:
        await listener.bind(ANY_PORT)
        listener.listen()
        client = trio.socket.socket()
        await client.connect(listener.getsockname())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener)
            await trio.testing.wait_all_tasks_blocked()
            with client, trial.armed(lambda: None):
                await note("client", lambda: client.send(b"question"))
                await note("client", lambda: client.recv(100))
            await trio.testing.wait_all_tasks_blocked()
    return notes


def test_a_fault_on_a_network_resets_both_ends() -> None:
    told: list[dict[str, list[object]]] = []

    points = fail_at_every_io(ask_and_answer, told.append, error=host_unreachable)

    unreachable, reset, untouched = "EHOSTUNREACH", "ECONNRESET", told.pop()
    assert untouched == {"client": [8, b"answer"], "server": [b"question", 6, b""]}
    assert len(told) == points
    assert told[0] == {"client": [unreachable, b""], "server": [reset]}
    for notes in told:
        went_wrong = {str(note) for who in notes for note in notes[who] if isinstance(note, str)}
        assert unreachable in went_wrong
        assert went_wrong <= {unreachable, reset, "EPIPE"}
