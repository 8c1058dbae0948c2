"""The bytes to and from one client: every write is timed by its progress, and anyone may end it
at once."""

from __future__ import annotations

import contextlib
import socket as stdlib_socket
import struct

import trio

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER on, with zero seconds: closing sends RST and drops what the kernel still holds for
the peer."""


class ClientStream(trio.abc.Stream):
    """A trio stream over a client's socket.

    A write that is cancelled, or of which the socket accepts no byte for ``write_timeout`` seconds,
    kills the connection: part of it may be out, so no later byte would make sense to the peer. A
    client that reads slowly but reads is never cut. No write is shielded.
    """

    def __init__(self, socket: trio.socket.SocketType, *, write_timeout: float) -> None:
        self.socket = socket
        self.write_timeout = write_timeout

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``. Raises :exc:`trio.BrokenResourceError` where the client is gone or
        stuck.

        If cancelled, the connection has been killed.
        """
        with memoryview(data) as whole:
            rest = whole
            try:
                while rest:
                    with trio.fail_after(self.write_timeout):
                        sent = await self.socket.send(rest)
                    rest = rest[sent:]
            except (OSError, trio.TooSlowError, trio.ClosedResourceError) as error:
                self.kill()
                raise trio.BrokenResourceError("the client does not take our bytes") from error
            except trio.Cancelled:
                self.kill()
                raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket accepts bytes. If cancelled, nothing has changed."""
        await self.socket.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read what is there, b"" at the end of the client's side. If cancelled, nothing was read.

        Raises :exc:`trio.BrokenResourceError` where the client reset,
        :exc:`trio.ClosedResourceError` after :meth:`kill`.
        """
        try:
            return await self.socket.recv(max_bytes or 65536)
        except OSError as error:
            raise trio.BrokenResourceError("the client reset the connection") from error

    def send_eof(self) -> None:
        """Say that nothing more will be written; what was written is still delivered."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(stdlib_socket.SHUT_WR)

    def kill(self) -> None:
        """Close at once and tell the client by RST. Whoever waits in a read or write gets an
        error. Idempotent."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, ABORT)
        self.socket.close()

    def close(self) -> None:
        """Close at once; what was written is still delivered by the kernel. Idempotent."""
        self.socket.close()

    async def aclose(self) -> None:
        """:meth:`close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()
