"""Where a call gets stuck, or fails, before there is a connection."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import trio


@contextmanager
def listen_in_vain() -> Generator[str]:
    """A listening socket whose backlog is full: connecting to it takes for ever (Linux drops what
    does not fit)."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield "http://{}:{}".format(*listener.getsockname())


class StuckResolver(trio.abc.HostnameResolver):
    """Is asked, and never answers."""

    def __init__(self) -> None:
        self.asked = trio.Event()

    async def getaddrinfo(self, *question: object, **details: object) -> NoReturn:
        self.asked.set()
        await trio.sleep_forever()

    async def getnameinfo(self, sockaddr: object, flags: int) -> NoReturn:
        raise NotImplementedError


class UnknownName(trio.abc.HostnameResolver):
    """Knows no name."""

    async def getaddrinfo(self, *question: object, **details: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, sockaddr: object, flags: int) -> NoReturn:
        raise NotImplementedError
