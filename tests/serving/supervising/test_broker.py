"""The broker of the workers' own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trioproxy.cluster.address import Address, parse_address
from trioproxy.serving.supervising import broker as module
from trioproxy.serving.supervising.broker import NoBroker, open_broker

WITHIN = 20.0


def children() -> Iterator[int]:
    for thread in Path("/proc/self/task").iterdir():
        yield from map(int, (thread / "children").read_text().split())


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def ask(address: Address, *questions: str) -> bytes:
    """What it answers, one line to each."""
    [(host, port)] = address.hosts
    async with await trio.open_tcp_stream(host, port) as stream:
        answers = b""
        for question in questions:
            await stream.send_all(f"{question}\r\n".encode())
            answers += await stream.receive_some()
        return answers


async def asked_again_and_again(address: Address, *questions: str) -> bytes:
    with trio.fail_after(WITHIN):
        while True:
            try:
                if answers := await ask(address, *questions):
                    return answers
            except (OSError, trio.BrokenResourceError):
                await trio.sleep(0.02)


async def test_it_is_for_who_has_the_password_and_holds_so_much() -> None:
    async with open_broker(100 * 2**20) as url:
        address = parse_address(url)
        login = f"AUTH {address.password}"
        assert (await ask(address, "GET x")).startswith(b"-NOAUTH")
        assert await ask(address, login, "SET x 1") == b"+OK\r\n+OK\r\n"
        for setting, value in (
            ("maxmemory", b"104857600"),
            ("maxmemory-policy", b"noeviction"),
            ("save", b""),
            ("appendonly", b"no"),
            ("bind", b"127.0.0.1"),
        ):
            answer = await ask(address, login, f"CONFIG GET {setting}")
            assert answer.split(b"\r\n")[-2] == value, setting
        assert address.hosts[0][0] == "127.0.0.1"


async def test_its_password_is_in_no_command_line() -> None:
    before = set(children())
    async with open_broker(1) as url:
        password = parse_address(url).password
        assert password is not None
        [pid] = set(children()) - before
        assert password.encode() not in command_line(pid)
    assert set(children()) <= before


async def test_when_it_dies_another_comes_to_the_same_address() -> None:
    before = set(children())
    async with open_broker(1) as url:
        address = parse_address(url)
        login = f"AUTH {address.password}"
        assert await ask(address, login, "SET x 1") == b"+OK\r\n+OK\r\n"
        for _ in range(2):
            [pid] = set(children()) - before
            os.kill(pid, signal.SIGKILL)
            pidfd = os.pidfd_open(pid)
            await trio.lowlevel.wait_readable(pidfd)
            os.close(pidfd)
            assert await asked_again_and_again(address, login, "EXISTS x") == b"+OK\r\n:0\r\n"


async def test_one_that_cannot_start_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "valkey"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(module, "find_program", lambda: str(program))
    with trio.fail_after(WITHIN), pytest.RaisesGroup(NoBroker):
        async with open_broker(1):
            pass


async def test_where_a_port_is_taken_another_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], module._free_port()])
        monkeypatch.setattr(module, "_free_port", lambda: next(ports))
        with trio.fail_after(WITHIN):
            async with open_broker(1) as url:
                assert next(ports, None) is None
                assert (await ask(parse_address(url), "GET x")).startswith(b"-NOAUTH")
