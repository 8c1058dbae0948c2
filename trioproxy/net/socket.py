"""Sockets that never block: the kernel's, and whatever else behaves as they do."""

from __future__ import annotations

import select
import socket as stdlib_socket
from collections.abc import Awaitable
from typing import Any, Protocol, runtime_checkable

import trio


class Socket(Protocol):
    """What a stream needs of a socket: a part of the standard library's non-blocking one, whether
    there is something to receive, and two ways to wait.

    Those two raise :exc:`trio.ClosedResourceError` when the socket is closed meanwhile; if
    cancelled, nothing has changed.
    """

    @property
    def family(self) -> int: ...
    @property
    def is_readable(self) -> bool: ...
    def fileno(self) -> int: ...
    def getsockname(self) -> Any: ...
    def getpeername(self) -> Any: ...
    def send(self, data: memoryview, /) -> int: ...
    def recv(self, max_bytes: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...
    def wait_readable(self) -> Awaitable[None]: ...
    def wait_writable(self) -> Awaitable[None]: ...


class KernelSocket(stdlib_socket.socket):
    """The kernel's socket, as a :class:`Socket`. Takes the file descriptor over."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.setblocking(False)

    @property
    def is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return bool(poll.poll(0))

    # Each hands on what trio returns: another coroutine around it would cost every token.

    def wait_readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self)  # noqa: ASYNC105

    def wait_writable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_writable(self)  # noqa: ASYNC105

    def close(self) -> None:
        if self.fileno() >= 0:
            trio.lowlevel.notify_closing(self)
        super().close()


@runtime_checkable
class Mounted(Protocol):
    """A socket of trio's that is not the kernel's (see
    :func:`trio.socket.set_custom_socket_factory`), and stands on another."""

    @property
    def endpoint(self) -> Socket: ...


def take_over(socket: trio.socket.SocketType) -> Socket:
    """What a connected socket of trio's stands on. The given one is of no more use."""
    return socket.endpoint if isinstance(socket, Mounted) else KernelSocket(socket.detach())
