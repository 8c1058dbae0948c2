"""A socket that clients come in by, from the first to those who are in when it is closed."""

from __future__ import annotations

import errno
import socket as stdlib_socket
from collections.abc import Sequence

import trio
from hypercorn.utils import repr_socket_addr  # pyright: ignore[reportUnknownVariableType]

from trioproxy.net import DirectStream, KernelSocket

MAX_AT_ONCE = 16

MAX_WAITING = 4096
"""Who may be in and not accepted yet, at a socket of ours."""

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


class ClientListener(trio.abc.Listener[DirectStream]):
    """A listening address.

    Attributes:
        address: how its URL names it: ``host:port`` or ``unix:path``.
        waiting: once it is closed, who had got in by then and was not accepted: they are owed an
            answer, by whoever closed it.
    """

    address: str
    waiting: Sequence[DirectStream] = ()

    def turn_away(self) -> bool:
        """Send newcomers to the other process that listens on this address. False where none
        can."""
        return False


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
                return self._accept_nowait()
            except BlockingIOError:
                self._at_once = 0
            except OSError as error:
                if error.errno not in GONE_ALREADY:
                    self._at_once = 0
                    raise

    async def aclose(self) -> None:
        """Stop listening, and a checkpoint. Who waits is accepted first, in the same step: the
        kernel resets those that it finds in a socket that is closed."""
        if self.socket.fileno() >= 0:
            self.waiting = self._take_waiting()
            trio.lowlevel.notify_closing(self.socket)
            self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Stop listening at once, whoever waits; nobody must be accepting."""
        self.socket.close()

    def _take_waiting(self) -> list[DirectStream]:
        waiting: list[DirectStream] = []
        for _ in range(MAX_WAITING):
            try:
                waiting.append(self._accept_nowait())
            except OSError as error:
                if error.errno not in GONE_ALREADY:
                    break
        return waiting

    def _accept_nowait(self) -> DirectStream:
        accepted, _ = self.socket.accept()
        return DirectStream(KernelSocket(accepted.detach()), write_timeout=self._write_timeout)
