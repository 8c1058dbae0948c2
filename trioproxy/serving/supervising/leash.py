"""Processes that die with this one, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

import trio

FIRST = 3
"""The first descriptor of those that a process is given, as sd_listen_fds(3) has it."""

LEASH = """
import ctypes, os, signal, sys
parent, given, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl(2); execve(2) keeps it
if os.getppid() != int(parent):  # it had died before
    sys.exit(1)
given = [int(each) for each in given.split(",") if each]
aside = [os.dup(each) for each in given]
high = max([3, *given, *aside]) + len(given) + 1
aside = [os.dup2(each, high + index) for index, each in enumerate(aside)]
os.closerange(3, high)
for index, each in enumerate(aside):
    os.dup2(each, 3 + index)
    os.close(each)
if "LISTEN_FDS" in os.environ:
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(command[0], command)
"""
"""What a process is before it is the command. Python has no safe way to run this between fork and
exec of a process with threads, so it is a program of its own."""


class Leashed:
    """A process of ours, which runs."""

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        self.pid = process.pid
        self._process = process
        self._pidfd = pidfd

    @property
    def stdin(self) -> IO[bytes]:
        """Of one that was started to be told something."""
        assert self._process.stdin is not None
        return self._process.stdin

    async def wait(self) -> int:
        """Its exit code, when it has ended; if a signal has ended it, less than 0. One task at a
        time. If cancelled, it runs on."""
        await trio.lowlevel.wait_readable(self._pidfd)  # pidfd_open(2)
        return self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        self._process.send_signal(number)


@contextmanager
def leashed(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> Generator[Leashed]:
    """Run a command for the length of the block; it has ``fds`` from :data:`FIRST` on. On exit it
    is killed, if it has not ended, and reaped. Raises :exc:`OSError`.

    It is in a process group of its own: Ctrl-C at a terminal is for this process to hear. To be
    called from the main thread: the kernel ends it with the *thread* that has started it.
    """
    leash = [sys.executable, "-I", "-S", "-c", LEASH]
    given = ",".join(map(str, fds))
    process = subprocess.Popen(
        [*leash, str(os.getpid()), given, *command],
        env=environ,
        stdin=stdin,
        stdout=stdout,
        pass_fds=fds,
        process_group=0,
    )
    with process:
        try:
            pidfd = os.pidfd_open(process.pid)
            try:
                yield Leashed(process, pidfd)
            finally:
                os.close(pidfd)
        finally:
            process.kill()  # what is killed ends at once: the kernel asks nobody
