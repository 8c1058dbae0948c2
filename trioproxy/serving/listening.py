"""Where clients come in: the addresses that are listened on."""

from __future__ import annotations

import errno
import socket as stdlib_socket
from collections.abc import Callable, Sequence

import trio
from hypercorn.config import Config
from hypercorn.utils import repr_socket_addr  # pyright: ignore[reportUnknownVariableType]

from trioproxy.net import DirectStream, KernelSocket

MAX_AT_ONCE = 16

GONE_ALREADY = {
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
}
"""What accepting says of a client that has gone again (accept(2), "Error handling")."""

MAX_UNSENT_BYTES = 16 * 1024
"""What the kernel takes of a connection beyond what it can send: a client that stops reading is
felt soon."""


class ClientListener(trio.abc.Listener[DirectStream]):
    """A listening address. ``address`` is how its URL names it: ``host:port`` or ``unix:path``."""

    address: str


Listen = Callable[[], Sequence[ClientListener]]
"""Begins to listen: from here on clients get in. Raises :exc:`OSError`."""


class KernelListener(ClientListener):
    """A listening socket of the kernel's. Takes the socket over."""

    def __init__(self, socket: stdlib_socket.socket, *, write_timeout: float) -> None:
        self.address = repr_socket_addr(socket.family, socket.getsockname())
        self.socket = socket
        self._write_timeout = write_timeout
        self._at_once = 0

    async def accept(self) -> DirectStream:
        """The next client. If cancelled, none was taken.

        Not always a checkpoint: of the clients that wait, up to :data:`MAX_AT_ONCE` are taken in
        one pass of the scheduler. While streams fan out, a pass is long, and with one client in
        each nobody would get in.
        """
        while True:
            if self._at_once == 0:
                await trio.lowlevel.wait_readable(self.socket)
            self._at_once = (self._at_once + 1) % MAX_AT_ONCE
            try:
                accepted, _ = self.socket.accept()
            except BlockingIOError:
                self._at_once = 0
            except OSError as error:
                if error.errno not in GONE_ALREADY:
                    self._at_once = 0
                    raise
            else:
                socket = KernelSocket(accepted.detach())
                return DirectStream(socket, write_timeout=self._write_timeout)

    async def aclose(self) -> None:
        """Stop listening, and a checkpoint."""
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()
        await trio.lowlevel.checkpoint()


def listen(config: Config, *, write_timeout: float) -> list[KernelListener]:
    """Listen where ``config`` says. Raises :exc:`OSError`."""
    sockets = config.create_sockets()
    listeners: list[KernelListener] = []
    for socket in sockets.secure_sockets + sockets.insecure_sockets:
        socket.setblocking(False)
        _set_options(socket, write_timeout)
        socket.listen(config.backlog)
        listeners.append(KernelListener(socket, write_timeout=write_timeout))
    return listeners


def _set_options(socket: stdlib_socket.socket, write_timeout: float) -> None:
    """What accepted sockets inherit (tcp(7)): tokens go out at once, little piles up, and the
    kernel ends connections whose peer has vanished."""
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
    if socket.family not in (stdlib_socket.AF_INET, stdlib_socket.AF_INET6):
        return
    tcp = stdlib_socket.IPPROTO_TCP
    socket.setsockopt(tcp, stdlib_socket.TCP_NODELAY, 1)
    if hasattr(stdlib_socket, "TCP_NOTSENT_LOWAT"):
        socket.setsockopt(tcp, stdlib_socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
    if hasattr(stdlib_socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, int(min(write_timeout * 1000, 2**31 - 1)))
        socket.setsockopt(tcp, stdlib_socket.TCP_USER_TIMEOUT, milliseconds)
