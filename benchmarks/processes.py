"""Servers to measure, each a process tree of its own, for the length of a block.

None outlives its block: a server is asked to end, and killed with all its descendants where it does
not. One that ends by itself is an error, while it starts or at the end of the block.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
EXIT_SECONDS = 10.0

_POLL_SECONDS = 0.02
_SHOWN_LINES = 20
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Process:
    """A server that listens on ``host`` and ``port``, and what its process tree costs.

    The figures are sums over the process and its descendants. One that ends while it is looked at
    counts as nothing.
    """

    def __init__(self, pid: int, host: str, port: int) -> None:
        self.pid, self.host, self.port = pid, host, port

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pids(self) -> list[int]:
        """The process and all its descendants (proc(5), task/TID/children)."""
        pids = [self.pid]
        for pid in pids:  # it grows as it is read
            with suppress(FileNotFoundError, ProcessLookupError):
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    pids += map(int, children.read_text().split())
        return pids

    def fds(self) -> int:
        """Open file descriptors."""
        return self._sum(lambda pid: len(os.listdir(f"/proc/{pid}/fd")))

    def rss_bytes(self) -> int:
        """Resident memory (proc(5), statm: the second field, in pages)."""
        return self._sum(
            lambda pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        )

    def cpu_seconds(self) -> float:
        """User and system time so far (proc(5), stat: fields 14 and 15, in clock ticks)."""
        return self._sum(_cpu_ticks) / _TICKS_PER_SECOND

    def _sum(self, figure: Callable[[int], int]) -> int:
        total = 0
        for pid in self.pids:
            with suppress(FileNotFoundError, ProcessLookupError):
                total += figure(pid)
        return total


@contextmanager
def run(
    arguments: Sequence[str], *, module: str = "trioproxy", log: Path | None = None
) -> Generator[Process]:
    """Run ``python -m MODULE ARGUMENTS`` until it prints, as its first line, where it listens.

    Its stderr goes to the end of the file ``log`` where one is given. Raises :exc:`RuntimeError`
    where it ends before that line, or by itself later.
    """
    argv = [sys.executable, "-m", module, *arguments]
    with ExitStack() as stack:
        stderr = None if log is None else stack.enter_context(log.open("ab"))
        child = stack.enter_context(_started(argv, stdout=subprocess.PIPE, stderr=stderr))
        assert child.stdout is not None
        with child.stdout:
            line = child.stdout.readline().decode()
            address = re.search(r"https?://([^:]+):(\d+)", line)
            if address is None:
                raise RuntimeError(f"{' '.join(argv)} announced {line!r}, which is no address")
            yield Process(child.pid, address[1], int(address[2]))


@contextmanager
def run_program(
    argv: Sequence[str],
    port: int,
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = START_SECONDS,
) -> Generator[Process]:
    """Run a program that was told to listen on this port of 127.0.0.1, until it accepts there.

    ``environment`` is put over ours. Raises :exc:`TimeoutError` where it does not listen within
    ``seconds``, and :exc:`RuntimeError` where it ends by itself, with the end of what it printed.
    """
    environment = os.environ | (environment or {})
    with (
        tempfile.TemporaryFile() as output,
        _started(argv, stdout=output, stderr=output, environment=environment) as child,
    ):
        deadline = time.monotonic() + seconds
        while not _accepts(port):
            if child.poll() is not None:
                output.seek(0)
                last = b"".join(output.readlines()[-_SHOWN_LINES:]).decode(errors="replace")
                raise RuntimeError(f"{' '.join(argv)} ended before it listened:\n{last}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{' '.join(argv)} does not listen on {port}")
            time.sleep(_POLL_SECONDS)
        yield Process(child.pid, "127.0.0.1", port)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def _started(
    argv: Sequence[str],
    *,
    stdout: int | IO[bytes],
    stderr: IO[bytes] | None,
    environment: Mapping[str, str] | None = None,
) -> Generator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env={**(os.environ if environment is None else environment), "TRIOPROXY_LOG": "off"},
        cwd=ROOT,
        process_group=0,  # Ctrl-C reaches only us, who end it in good order
    )
    try:
        _allow_many_files(child.pid)
        yield child
        if child.poll() is not None:
            raise RuntimeError(f"{' '.join(argv)} ended by itself, with status {child.returncode}")
    finally:
        _end(child)


def _allow_many_files(pid: int) -> None:
    """Raise its limit of open files as far as it goes: a storm has a socket or two per client."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in reversed(Process(child.pid, "", 0).pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
