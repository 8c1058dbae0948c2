"""The baseline finds what is left open, names it, and takes nothing else for a leak."""

import os
import re
import socket

import pytest
import trio
from trio.testing import MockClock

from tests.support.baseline import Baseline


async def test_what_was_open_before_is_no_leak(nursery: trio.Nursery) -> None:
    nursery.start_soon(trio.sleep_forever)
    with socket.socket():
        await Baseline().settled(within=0)


async def test_leaked_task_is_named_with_the_stack_of_its_awaits(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def read_for_ever() -> None:
        await trio.sleep_forever()

    async def leaked_subscriber() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(read_for_ever, name="its reader")

    baseline = Baseline()
    nursery.start_soon(leaked_subscriber)

    with pytest.raises(AssertionError) as failure:
        await baseline.settled()

    message = str(failure.value)
    assert message.startswith("2 tasks and 0 descriptors left after 1.0 s\n")
    assert re.search(r"task \S+leaked_subscriber\n.*in leaked_subscriber\n", message, re.DOTALL)
    assert re.search(r"task its reader\n.*in read_for_ever\n.*in sleep_forever", message, re.DOTALL)


async def test_leaked_socket_is_named_with_its_addresses(autojump_clock: MockClock) -> None:
    baseline = Baseline()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        with pytest.raises(AssertionError) as failure:
            await baseline.settled()

        _, listening, connected = str(failure.value).splitlines()
        here, there = client.getsockname(), listener.getsockname()
        inode = os.readlink(f"/proc/self/fd/{client.fileno()}")
        assert f"fd {client.fileno()} {inode} {here} connected to {there}" == connected
        assert listening.endswith(f"{there} connected to nobody")


async def test_leaked_pipe_is_named(autojump_clock: MockClock) -> None:
    baseline = Baseline()
    reader, writer = os.pipe()
    try:
        with pytest.raises(AssertionError, match=rf"2 descriptors .*\nfd {reader} pipe:\[\d+\]\n"):
            await baseline.settled()
    finally:
        os.close(reader)
        os.close(writer)


async def test_new_socket_under_an_old_number_is_found(autojump_clock: MockClock) -> None:
    old = socket.socket()
    number = old.fileno()
    baseline = Baseline()
    old.close()
    with socket.socket() as new:
        assert number == new.fileno()

        with pytest.raises(AssertionError, match=f"1 descriptors .*\nfd {number} socket"):
            await baseline.settled()


async def test_leak_is_found_although_another_task_ended(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ending = trio.CancelScope()

    async def ends() -> None:
        with ending:
            await trio.sleep_forever()

    nursery.start_soon(ends)
    baseline = Baseline()
    ending.cancel()
    nursery.start_soon(trio.sleep_forever, name="leaked")

    with pytest.raises(AssertionError, match=r"1 tasks and 0 descriptors .*\ntask leaked"):
        await baseline.settled()


async def test_what_ends_in_time_is_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def ends_late() -> None:
        with socket.socket():
            await trio.sleep(0.9)

    baseline = Baseline()
    nursery.start_soon(ends_late)
    await trio.testing.wait_all_tasks_blocked()

    await baseline.settled()

    assert 0.9 <= trio.current_time() < 1.0
