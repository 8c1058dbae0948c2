"""Where clients come in: the addresses that are listened on."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable, Sequence

import trio
from hypercorn.config import Config
from hypercorn.utils import repr_socket_addr  # pyright: ignore[reportUnknownVariableType]

from trioproxy.serving.stream import ClientStream, KernelSocket


class ClientListener(trio.abc.Listener[ClientStream]):
    """A listening address. ``address`` is how its URL names it: ``host:port`` or ``unix:path``."""

    address: str


Listen = Callable[[], Sequence[ClientListener]]
"""Begins to listen: from here on clients get in. Raises :exc:`OSError`."""


class KernelListener(ClientListener):
    """A listening socket of the kernel's."""

    def __init__(self, socket: stdlib_socket.socket, *, write_timeout: float) -> None:
        self.address = repr_socket_addr(socket.family, socket.getsockname())
        self.socket = trio.socket.from_stdlib_socket(socket)
        self._write_timeout = write_timeout
        self._listener = trio.SocketListener(self.socket)

    async def accept(self) -> ClientStream:
        """The next client. If cancelled, none was taken."""
        stream = await self._listener.accept()
        return ClientStream(KernelSocket(stream.socket.detach()), write_timeout=self._write_timeout)

    async def aclose(self) -> None:
        """Stop listening, and a checkpoint."""
        await self._listener.aclose()


def listen(config: Config, *, write_timeout: float) -> list[KernelListener]:
    """Listen where ``config`` says. Raises :exc:`OSError`."""
    sockets = config.create_sockets()
    listeners: list[KernelListener] = []
    for socket in sockets.secure_sockets + sockets.insecure_sockets:
        _notice_dead_peers(socket, write_timeout)
        socket.listen(config.backlog)
        listeners.append(KernelListener(socket, write_timeout=write_timeout))
    return listeners


def _notice_dead_peers(socket: stdlib_socket.socket, write_timeout: float) -> None:
    """Let the kernel end connections whose peer has vanished; accepted sockets inherit it
    (tcp(7))."""
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
    if hasattr(stdlib_socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, int(min(write_timeout * 1000, 2**31 - 1)))
        socket.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_USER_TIMEOUT, milliseconds)
