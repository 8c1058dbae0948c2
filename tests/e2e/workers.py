"""A proxy of several processes, and how to come to one of them."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.e2e.commands import Command, open_command
from tests.e2e.polling import fetch, wait_equal
from tests.support.rawhttp import RawClient, open_client
from trioproxy.config import WORKER_VARIABLE

DRAIN = 1.0

PATIENCE = 90.0
"""Seconds that all workers get to be replaced in, on a machine that has much else to do."""


@dataclass(frozen=True, slots=True)
class Workers(Command):
    """A supervisor, and those that it has started."""

    def children(self) -> list[int]:
        """The processes that it has started, those included that have not been reaped."""
        found: list[int] = []
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError):  # it has ended meanwhile
                found += map(int, (thread / "children").read_text().split())
        return sorted(found)

    def pids(self) -> list[int]:
        """Of its workers."""
        return [pid for pid in self.children() if WORKER_VARIABLE.encode() in _read(pid, "environ")]

    def broker_pids(self) -> list[int]:
        return [pid for pid in self.children() if b"valkey" in _read(pid, "cmdline")]

    def count_descriptors(self) -> int:
        """Of the supervisor."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @asynccontextmanager
    async def client_of(self, pid: int) -> AsyncGenerator[RawClient]:
        """A connection to this worker. It has been asked once, and is kept."""
        async with AsyncExitStack() as stack:
            with _stopped([other for other in self.pids() if other != pid]):
                client = await stack.enter_async_context(open_client(self.url))
                await client.request("GET", "/healthz")
                await client.response_head()
                await client.body()
            yield client

    async def metrics(self) -> dict[str, float]:
        """All samples, by name and labels."""
        lines = (await fetch(self.url, "/metrics")).decode().splitlines()
        samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return {name: float(value) for name, _, value in samples}

    async def wait_workers(self, number: int, *, without: Sequence[int] = ()) -> list[int]:
        """Wait until so many serve, and none of ``without`` is left."""

        async def count_left() -> int:
            await trio.lowlevel.checkpoint()
            return len(set(without) & {*self.children()})

        async def count() -> float:
            return (await self.metrics())["trioproxy_workers"]

        await wait_equal(0, count_left, what="workers before", within=PATIENCE, every=0.05)
        await wait_equal(number, count, what="workers", within=PATIENCE, every=0.2)
        return self.pids()


@contextmanager
def open_workers(
    upstream: str, *options: str, number: int = 2, own_broker: bool = True
) -> Generator[Workers]:
    """So many in front of `upstream`. See `open_command`."""
    arguments = ["--bind", "127.0.0.1:0", "--upstream", upstream, "--workers", str(number)]
    with open_command("serve", *arguments, "--drain", str(DRAIN), *options) as command:
        workers = Workers(command.url, command.process)
        assert (len(workers.pids()), len(workers.broker_pids())) == (number, int(own_broker))
        yield workers


@contextmanager
def watched(workers: Workers) -> Generator[list[int]]:
    """Tell whether the processes that it has now have ended: their pidfds, for the length of the
    block."""
    pidfds = [os.pidfd_open(pid) for pid in workers.children()]
    try:
        yield pidfds
    finally:
        for each in pidfds:
            os.close(each)


def have_ended(pidfds: Sequence[int], *, within: float = 10.0) -> bool:
    """Whether all of them end within so many seconds."""
    return all(bool(select.select([each], [], [], within)[0]) for each in pidfds)


@contextmanager
def _stopped(pids: Sequence[int]) -> Generator[None]:
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):  # it has ended meanwhile
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
