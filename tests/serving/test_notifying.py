"""What a service manager hears, and in which order."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trioproxy.serving.notifying import open_notifier


class Manager:
    """A service manager's ear."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.settimeout(30)

    def hear(self) -> str:
        return self.socket.recv(4096).decode()

    def heard(self) -> list[str]:
        """All that has been said and not heard yet."""
        self.socket.setblocking(False)
        told: list[str] = []
        while True:
            try:
                told.append(self.hear())
            except BlockingIOError:
                return told


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = f"@trioproxy-{os.getpid()}-{time.monotonic_ns()}"
    manager = Manager(abstract if request.param == "abstract" else str(tmp_path / "notify"))
    with manager.socket:
        yield manager


async def test_it_is_told_of_each_step(manager: Manager) -> None:
    with open_notifier({"NOTIFY_SOCKET": manager.address}) as notifier:
        notifier.ready()
        before = time.monotonic_ns() // 1000
        notifier.reloading()
        notifier.ready()
        notifier.stopping()

    ready, reloading, ready_again, stopping = manager.heard()
    assert (ready, ready_again, stopping) == ("READY=1", "READY=1", "STOPPING=1")
    told = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", reloading)
    assert told is not None
    assert before <= int(told[1]) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize(
    ("variables", "times"),
    [
        ({"WATCHDOG_USEC": "2000000"}, [1.0, 2.0, 3.0]),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, [1.0, 2.0, 3.0]),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, []),
        ({}, []),
    ],
)
async def test_the_watchdog_is_fed_twice_as_often_as_it_wants(
    manager: Manager, variables: dict[str, str], times: list[float], autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    heard: list[float] = []
    with open_notifier({"NOTIFY_SOCKET": manager.address, **variables}) as notifier:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.feed_watchdog)
            for _ in range(35):
                await trio.sleep(0.1)
                heard += [trio.current_time() - start for _ in manager.heard()]
            nursery.cancel_scope.cancel()

    assert [round(each) for each in heard] == times


async def test_without_a_manager_nothing_is_said() -> None:
    with open_notifier({}) as notifier:
        notifier.ready()


async def test_a_manager_that_does_not_listen_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket, open_notifier({"NOTIFY_SOCKET": manager.address}) as notifier:
        for _ in range(5000):
            notifier.ready()
    with open_notifier({"NOTIFY_SOCKET": manager.address}) as notifier:
        notifier.stopping()

    assert "was not told READY=1: " in caplog.records[0].message
    assert "was not told STOPPING=1: " in caplog.records[-1].message


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
async def test_a_process_tells_that_it_listens_lives_and_goes(
    tmp_path: Path, options: Sequence[str]
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environ = {
        **os.environ,
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "4000000" if options else "200000",  # it is for the workers too
        "TRIOPROXY_LOG": "off",
    }
    with manager.socket:
        heard, process = await trio.to_thread.run_sync(serve_and_hear, manager, environ, options)

    assert heard[:3] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    assert set(heard[3:]) <= {"STOPPING=1", "WATCHDOG=1"}
    assert heard.count("STOPPING=1") == 1
    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout.startswith(b"trioproxy listening on ")


def serve_and_hear(
    manager: Manager, environ: dict[str, str], options: Sequence[str]
) -> tuple[list[str], subprocess.CompletedProcess[bytes]]:
    """What a process says, that is told to end when it has said three things; and how it ended."""
    command = [sys.executable, "-W", "error", "-m", "trioproxy", "serve", "--bind", "127.0.0.1:0"]
    command += options
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe) as process:
        try:
            heard = [manager.hear() for _ in range(3)]
        finally:
            process.send_signal(signal.SIGTERM)
            said, complaints = process.communicate(timeout=10)
    ended = subprocess.CompletedProcess(command, process.returncode, said, complaints)
    return heard + manager.heard(), ended
