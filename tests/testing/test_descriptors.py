"""The census names each descriptor that was opened within it, by identity."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trioproxy.testing import descriptors
from trioproxy.testing.census import Leaked, TaskCensus


async def test_descriptor_that_was_open_before_is_not_counted() -> None:
    with socket.socket(), TaskCensus() as census:
        assert census.alive == ()


async def test_leaked_socket_is_named_with_its_addresses() -> None:
    with (
        TaskCensus() as census,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        listening, connected = sorted(one.name for one in census.alive)

        here, there = client.getsockname(), listener.getsockname()
        inode = os.readlink(f"/proc/self/fd/{client.fileno()}")
        assert f"{client.fileno()} {inode} {here} connected to {there}" == connected
        assert listening.endswith(f"{there} connected to nobody")


async def test_leaked_pipe_is_named() -> None:
    with TaskCensus() as census:
        reader, writer = os.pipe()
        try:
            assert census.counts == {"descriptor": 2}
            assert re.fullmatch(rf"descriptor {reader} pipe:\[\d+\]", str(census.alive[0]))
        finally:
            os.close(reader)
            os.close(writer)


async def test_new_socket_under_an_old_number_is_found() -> None:
    old = socket.socket()
    number = old.fileno()
    with TaskCensus() as census:
        old.close()
        with socket.socket() as new:
            assert new.fileno() == number
            assert [one.name.split(":")[0] for one in census.alive] == [f"{number} socket"]


async def test_socket_that_is_closed_in_time_is_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def close_late(sock: socket.socket) -> None:
        with sock:
            await trio.sleep(0.9)

    with TaskCensus() as census:
        nursery.start_soon(close_late, socket.socket())

        await census.settled()

    assert 0.9 <= trio.current_time() < 1.0


def test_descriptor_that_a_run_left_open_is_named_after_it() -> None:
    async def main() -> socket.socket:
        return socket.socket()

    with pytest.raises(Leaked, match=": 1 x descriptor"), TaskCensus() as census:
        left = trio.run(main, instruments=[census])
    left.close()


def test_descriptor_of_before_a_run_is_named_after_it() -> None:
    async def main() -> None:
        assert census.alive == ()

    with TaskCensus() as census, socket.socket() as opened:
        trio.run(main, instruments=[census])

        assert [str(opened.fileno())] == [one.name.split()[0] for one in census.alive]


def test_descriptor_that_closed_meanwhile_still_has_a_name() -> None:
    closed = os.dup(0)
    os.close(closed)

    assert f"{closed} socket:[1]" == descriptors.name_of_descriptor(closed, "socket:[1]")


def test_no_descriptor_is_counted_where_the_system_lists_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(descriptors, "_TABLE", str(tmp_path / "none"))

    assert frozenset() == descriptors.open_descriptors()
