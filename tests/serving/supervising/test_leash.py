"""Processes that die with the one that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import trio

from trioproxy.serving.supervising.leash import LEASH, leashed

WITHIN = 20.0

PARENT = """
import os, sys, time
from trioproxy.serving.supervising.leash import leashed
command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
with leashed(command, environ=os.environ):
    time.sleep(600)
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


async def test_it_ends_with_its_parent_even_if_that_is_killed() -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else is to do
        python(PARENT), stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    with trio.fail_after(WITHIN):
        await trio.lowlevel.wait_readable(pidfd)
    os.close(pidfd)


async def test_it_does_not_begin_when_its_parent_has_died(tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = python(f"open({str(told)!r}, 'w')")
    for parent, code in ((1, 1), (os.getpid(), 0)):
        words = [sys.executable, "-c", LEASH, str(parent), "", *command]
        ended = subprocess.run(words, timeout=WITHIN)  # noqa: ASYNC221 - likewise

        assert (ended.returncode, told.exists()) == (code, parent == os.getpid())


async def test_its_exit_code_is_told_and_a_signal_that_ended_it() -> None:
    with leashed(python("raise SystemExit(3)"), environ=os.environ) as process:
        with trio.fail_after(WITHIN):
            assert await process.wait() == 3
    with leashed(python("import time; time.sleep(600)"), environ=os.environ) as process:
        process.send(signal.SIGTERM)
        with trio.fail_after(WITHIN):
            assert await process.wait() == -signal.SIGTERM
        process.send(signal.SIGTERM)  # to nobody, and to no other of its number


async def test_leaving_the_block_leaves_no_process_and_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with leashed(
        python("import time; time.sleep(600)"), environ=os.environ, stdin=subprocess.PIPE
    ) as process:
        pass

    assert set(os.listdir("/proc/self/fd")) == before
    assert str(process.pid) not in os.listdir("/proc")


async def test_it_has_the_descriptors_that_it_is_given_and_no_others(tmp_path: Path) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    given = [theirs.fileno() for _, theirs in reversed(pairs)]
    program = (
        "import os, socket\n"
        "print(os.environ['LISTEN_PID'], os.getpid(), *sorted(os.listdir('/proc/self/fd')))\n"
        "for fd in (3, 4, 5): socket.socket(fileno=fd).send(str(fd).encode())\n"
    )
    environ = {**os.environ, "LISTEN_FDS": "3"}
    with (tmp_path / "told").open("w+") as told:
        with leashed(python(program), environ=environ, fds=given, stdout=told.fileno()) as process:
            with trio.fail_after(WITHIN):
                assert await process.wait() == 0
        told.seek(0)
        pid = str(process.pid)
        # 6 is the folder that is being listed.
        assert told.read().split() == [pid, pid, "0", "1", "2", "3", "4", "5", "6"]

    assert [ours.recv(10) for ours, _ in reversed(pairs)] == [b"3", b"4", b"5"]
    for pair in pairs:
        for each in pair:
            each.close()


async def test_ctrl_c_is_not_for_it() -> None:
    with leashed(python("import time; time.sleep(600)"), environ=os.environ) as process:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
