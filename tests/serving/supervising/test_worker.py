"""A worker, as its supervisor sees it: here a small program that says what a worker would."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from textwrap import dedent

import pytest
import trio

from trioproxy.config import WORKER_VARIABLE
from trioproxy.serving.supervising import worker as module
from trioproxy.serving.supervising.worker import Outfit, Worker, open_worker

WITHIN = 20.0

PRELUDE = f"""
import os, socket, struct, sys, time
supervisor, fd, watchdog = os.environ["{WORKER_VARIABLE}"].split(":")
line = socket.socket(fileno=int(fd))
listening = socket.socket(fileno=3)
def say(kind, text, number=0):
    line.sendall(struct.pack("!cIQ", kind, number, len(text)) + text)
def hear():
    kind, number, length = struct.unpack("!cIQ", line.recv(13, socket.MSG_WAITALL))
    return kind, number, line.recv(length, socket.MSG_WAITALL) if length else b""
"""


@asynccontextmanager
async def running(program: str, *, watchdog: float = math.inf) -> AsyncGenerator[Worker]:
    async def all_figures() -> bytes:
        await trio.lowlevel.checkpoint()
        return b"of all"

    command = [sys.executable, "-c", PRELUDE + dedent(program)]
    with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(WITHIN):
        outfit = Outfit(command, os.environ, [listener], watchdog, all_figures)
        async with open_worker(outfit) as worker:
            yield worker


async def test_it_is_ready_when_it_says_so_and_then_ends() -> None:
    async with running('say(b"w", b"READY=1"); line.recv(1)') as worker:
        assert await worker.wait_ready()
        assert worker.is_ready
        worker.signal(signal.SIGTERM)
        assert await worker.wait_ended() == -signal.SIGTERM
        assert not worker.is_ready


async def test_one_that_ends_before_was_never_ready() -> None:
    async with running("sys.exit(2)") as worker:
        assert not await worker.wait_ready()
        assert await worker.wait_ended() == 2


async def test_it_has_the_listening_socket() -> None:
    async with running(
        """
        listening.listen()
        say(b"w", b"READY=1")
        say(b"f", str(listening.getsockname()[1]).encode())
        """
    ) as worker:
        await worker.wait_ended()
        assert int(worker.figures) > 0


async def test_it_tells_its_metrics_and_is_told_those_of_all() -> None:
    async with running(
        """
        say(b"w", b"READY=1")
        kind, number, _ = hear()
        say(b"=", b"of one", number)
        say(b"?", b"", 7)
        kind, number, text = hear()
        say(b"f", kind + str(number).encode() + text)
        """
    ) as worker:
        await worker.wait_ready()
        await worker.tell_figures()
        assert worker.figures == b"of one"
        await worker.wait_ended()
        assert worker.figures == b"=7of all"


async def test_what_it_tells_for_the_last_time_counts_though_it_was_asked_just_before() -> None:
    async with running(
        """
        say(b"w", b"READY=1")
        _, number, _ = hear()
        answer, last = b"before", b"at the end"
        heads = (struct.pack("!cIQ", *head) for head in ((b"=", number, 6), (b"f", 0, 10)))
        line.sendall(next(heads) + answer + next(heads) + last)
        """
    ) as worker:
        await worker.wait_ready()
        await worker.tell_figures()
        await worker.wait_ended()
        assert worker.figures == b"at the end"


async def test_one_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIGURES_SECONDS", 0.05)
    async with running(
        'say(b"w", b"READY=1"); _, n, _ = hear(); say(b"=", b"1", n); time.sleep(600)'
    ) as worker:
        await worker.wait_ready()
        monkeypatch.setattr(module, "FIGURES_SECONDS", WITHIN)
        await worker.tell_figures()
        monkeypatch.setattr(module, "FIGURES_SECONDS", 0.05)
        await worker.tell_figures()
        assert worker.figures == b"1"


async def test_one_that_is_silent_for_too_long_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    async with running(
        """
        say(b"w", b"READY=1")
        for _ in range(3):
            time.sleep(0.3)
            say(b"w", b"WATCHDOG=1")
        say(b"f", b"lived")
        time.sleep(600)
        """,
        watchdog=1.0,
    ) as worker:
        assert await worker.wait_ended() == -signal.SIGKILL
        assert worker.figures == b"lived"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_one_that_does_not_get_ready_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.3)
    async with running("time.sleep(600)") as worker:
        assert not await worker.wait_ready()
        assert await worker.wait_ended() == -signal.SIGKILL


async def test_one_that_is_let_go_is_gone_and_its_line_too() -> None:
    before = set(os.listdir("/proc/self/fd"))
    async with running("time.sleep(600)") as worker:
        pass
    assert set(os.listdir("/proc/self/fd")) == before
    assert str(worker.pid) not in os.listdir("/proc")
