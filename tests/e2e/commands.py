"""Commands of trioproxy, each as a process of its own."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import trio

from tests.e2e.polling import fetch, wait_equal

_HAND_OVER = """
import os, sys
os.dup2({}, 3)
os.environ |= {{"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}}
os.execv(sys.argv[1], sys.argv[1:])
"""

_STARTUP_SECONDS = 30.0
_EXIT_SECONDS = 10.0

Census = dict[str, int]


@dataclass(frozen=True, slots=True)
class Command:
    """A command that listens at `url`."""

    url: str
    process: subprocess.Popen[bytes]

    async def wait_exit(self, within: float) -> int:
        """Wait until the process has ended, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it runs on after that many seconds.
        """
        return await trio.to_thread.run_sync(self.process.wait, within)

    def seconds_without_a_core(self) -> float:
        """How long, all in all, it was ready to run while others had the cores.

        From schedstat (proc(5)), in nanoseconds there. Where the kernel keeps no such count, 0.
        """
        schedstat = Path(f"/proc/{self.process.pid}/schedstat")
        return int(schedstat.read_text().split()[1]) / 1e9 if schedstat.exists() else 0.0


@dataclass(frozen=True, slots=True)
class Proxy(Command):
    """A proxy. `at_rest` is what it held before its first client came."""

    at_rest: Census

    async def census(self) -> Census:
        """What it holds now, in whole numbers, the connection that asks included."""
        return _held(await fetch(self.url, "/debug/census"))

    async def wait_census(self, expected: Mapping[str, int], *, within: float = 5.0) -> None:
        """Wait until the figures that `expected` names are as it says.

        Raises:
            AssertionError: they were not, within that many seconds.
        """

        async def measure() -> Mapping[str, int]:
            census = await self.census()
            return {name: census[name] for name in expected}

        await wait_equal(expected, measure, what="the proxy holds", within=within)

    async def wait_at_rest(self, *, within: float = 1.0) -> None:
        """Wait until it holds no more, and no less, than before its first client came."""
        await self.wait_census(self.at_rest, within=within)

    async def generation(self, generation_id: str) -> dict[str, Any]:
        """The generation, as the proxy describes it."""
        return json.loads(await fetch(self.url, f"/v1/generations/{generation_id}"))


@dataclass(frozen=True, slots=True)
class Simulator(Command):
    """A simulated engine."""

    async def stats(self) -> dict[str, int]:
        """Its counts of the calls that came, and how they ended."""
        return json.loads(await fetch(self.url, "/stats"))

    async def wait_active(self, calls: int, *, within: float = 2.0) -> None:
        """Wait until it answers exactly so many calls."""

        async def measure() -> int:
            return (await self.stats())["active"]

        await wait_equal(calls, measure, what="calls that are being answered", within=within)


@contextmanager
def open_proxy(
    upstream: str,
    *options: str,
    handed_over: socket.socket | None = None,
    may_be_killed: bool = False,
) -> Generator[Proxy]:
    """Serve `upstream` on a free port during the block, with a connection for each call: kept ones
    would be in the census. See `open_command`."""
    arguments = ["--bind", "127.0.0.1:0", "--upstream", upstream, "--debug"]
    arguments += ["--upstream-keep-alive", "0", *options]
    with open_command(
        "serve", *arguments, handed_over=handed_over, may_be_killed=may_be_killed
    ) as command:
        census = httpx.get(f"{command.url}/debug/census", trust_env=False, verify=False)
        yield Proxy(command.url, command.process, _held(census.content))


@contextmanager
def open_simulator(*options: str) -> Generator[Simulator]:
    """Run a simulated engine on a free port during the block. See `open_command`."""
    with open_command("simulate", "--bind", "127.0.0.1:0", *options) as command:
        yield Simulator(command.url, command.process)


@contextmanager
def open_command(
    *arguments: str, handed_over: socket.socket | None = None, may_be_killed: bool = False
) -> Generator[Command]:
    """Run `trioproxy` with these arguments during the block; it must listen, and say where. A
    listening socket is handed over to it as systemd does it (sd_listen_fds(3)).

    It is ended with the block, by SIGTERM, and must then have ended well: with exit code 0, within
    10 seconds, and without a traceback or a Python warning on stderr. One that `may_be_killed` may
    have ended by SIGKILL as well. Blocks while it starts and ends.

    Raises:
        RuntimeError: it did not start within 30 seconds; the message has its log.
        AssertionError: it did not end well.
    """
    command = [sys.executable, "-W", "error", "-m", "trioproxy", *arguments]
    passed = () if handed_over is None else (handed_over.fileno(),)
    if passed:
        command = [sys.executable, "-c", _HAND_OVER.format(*passed), *command]
    environ = {name: value for name, value in os.environ.items() if "TRIOPROXY_" not in name}
    environ["TRIOPROXY_LOG"] = "off"  # nobody reads it
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=passed,
            process_group=0,  # a Ctrl-C at the terminal is for the tests; they end the command
        ) as process,
    ):
        try:
            yield Command(_read_address(process, log), process)
        finally:
            process.terminate()
            try:
                code = process.wait(_EXIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        said = _read(log)
        was_killed = may_be_killed and code == -signal.SIGKILL
        assert code == 0 or was_killed, f"{arguments} ended with {code}:\n{said}"
        assert not re.search("Traceback|Warning", said), f"{arguments} said:\n{said}"


def _read_address(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    assert process.stdout is not None
    started, _, _ = select.select([process.stdout], [], [], _STARTUP_SECONDS)
    line = process.stdout.readline().decode() if started else ""
    address = re.search(r"listening on (http://\S+:\d+)", line)
    if address is None:
        raise RuntimeError(f"it did not start: {line!r}\n{_read(log)}")
    return address[1]


def _read(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode()


def _held(census: bytes) -> Census:
    # What has ended is retained on purpose, and memory is not given back to the last byte.
    return {
        name: count
        for name, count in json.loads(census).items()
        if name not in ("retained", "rss_bytes")
    }
