"""A stream straight on a socket: writes timed by progress, ended at once by anyone."""

from __future__ import annotations

import contextlib
import socket as stdlib_socket
import struct

import trio

from trioproxy.net.socket import Socket

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER on, with zero seconds: closing sends RST and drops what the kernel holds for the
peer."""


class DirectStream(trio.abc.Stream):
    """A trio stream on a non-blocking socket, with as little between the two as there can be.

    A write that is cancelled half-way, or of which the socket accepts no byte for ``write_timeout``
    seconds, kills the connection: part of it may be out, so no later byte would make sense to the
    peer. One that reads slowly but reads is never cut. No write is shielded.

    A token is a small write that the kernel takes at once, and a small read that nothing is there
    for yet: so a write pays for no deadline before it has to wait, and a read waits before it
    tries.
    """

    def __init__(self, socket: Socket, *, write_timeout: float) -> None:
        self.socket = socket
        self.write_timeout = write_timeout
        self.unsent = memoryview(b"")
        """What :meth:`write_nowait` has taken and the socket has not: it goes before any later
        byte."""

    def write_nowait(self, data: bytes) -> int:
        """Write what the socket takes now; return how much that is, 0 where the connection is
        closed too. The rest of what it took in part is kept as ``unsent``."""
        if self.unsent or self.socket.fileno() < 0:
            return 0
        try:
            sent = self.socket.send(view := memoryview(data))
        except BlockingIOError:
            return 0
        except OSError:
            self.kill()
            return 0
        if sent < len(data):
            self.unsent = view[sent:]
        return sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``. Raises :exc:`trio.BrokenResourceError` where the peer is gone or
        stuck.

        Lets others run only where it has to wait: who writes on and on has waited for what it
        writes. If cancelled, either nothing was written or the connection has been killed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.unsent:
            data, self.unsent = bytes(self.unsent) + data, memoryview(b"")
        with memoryview(data) as view:
            sent = self._send_nowait(view)
            try:
                while sent < len(view):
                    with trio.fail_after(self.write_timeout):
                        await self.socket.wait_writable()
                    sent += self._send_nowait(view[sent:])
            except trio.TooSlowError as error:
                self.kill()
                raise trio.BrokenResourceError("the peer does not take our bytes") from error
            except trio.Cancelled:
                self.kill()
                raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket accepts bytes. If cancelled, nothing has changed."""
        self._check_open()
        await self.socket.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read what is there, b"" at the end of the peer's side. If cancelled, nothing was read.

        Raises :exc:`trio.BrokenResourceError` where the peer reset, and
        :exc:`trio.ClosedResourceError` after :meth:`kill` or :meth:`close`.
        """
        while True:
            self._check_open()
            await self.socket.wait_readable()
            try:
                return self.socket.recv(max_bytes or 65536)
            except BlockingIOError:
                continue  # the kernel thought better of it
            except OSError as error:
                raise trio.BrokenResourceError("the peer reset the connection") from error

    def send_eof(self) -> None:
        """Say that nothing more will be written; what was written is still delivered."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(stdlib_socket.SHUT_WR)

    def kill(self) -> None:
        """Close at once and tell the peer by RST. Whoever waits in a read or write gets an error.
        Idempotent."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT)
        self.socket.close()

    def close(self) -> None:
        """Close at once; what was written is still delivered by the kernel, unless it is a part
        whose rest is ``unsent``: that is cut off. Idempotent."""
        if self.unsent:
            self.kill()
        else:
            self.socket.close()

    async def aclose(self) -> None:
        """:meth:`close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _send_nowait(self, view: memoryview) -> int:
        """The number of bytes that the socket takes now."""
        self._check_open()
        try:
            return self.socket.send(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.kill()
            raise trio.BrokenResourceError("the peer has gone") from error

    def _check_open(self) -> None:
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError("the connection was closed on this side")
