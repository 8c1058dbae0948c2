"""One end of a connection in memory: it behaves as a non-blocking socket of the kernel does.

What happens to an end, and what its operations say of it from then on (as Linux has it):

=====================================  =====================  ======================
what happened                          receiving              sending
=====================================  =====================  ======================
the other end half-closed              what came, then b""    is taken
the other end closed                   what came, then b""    is taken once, then EPIPE
the other end reset                    what came, then
                                       ECONNRESET, then b""   ECONNRESET, then EPIPE
the other end half-closed, then reset  what came, then b""    EPIPE
it half-closed itself                  as before              EPIPE
it was closed itself                   EBADF                  EBADF
=====================================  =====================  ======================

A reset is told once, by whichever operation comes first. An end that is closed with bytes unread
resets the other. The tests hold all this against the kernel.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import struct
from collections.abc import Callable

from trioproxy.testing.network.waiting import Waiting

Address = tuple[str, int]
"""A numeric IPv4 host, and a port."""

DEFAULT_BUFFER = 64 * 1024
"""Bytes that an end holds, received and not yet read."""

NO_DESCRIPTOR = 2**31 - 1
"""What open sockets that have no file descriptor say is theirs: one that nothing can be done
with."""


class Endpoint:
    """One end of a connection. Only :meth:`wait_readable` and :meth:`wait_writable` ever wait.

    What is sent goes to the other end's buffer, of ``buffer_bytes``, at once. ``on_io`` is called
    before each send and receive; where it raises :exc:`OSError`, the connection is reset with it.
    """

    def __init__(
        self,
        local: Address,
        remote: Address,
        *,
        buffer_bytes: int,
        on_io: Callable[[], object],
        on_close: Callable[[Endpoint], object],
    ) -> None:
        self.local = local
        self.remote = remote
        self.buffer_bytes = buffer_bytes
        self.family = stdlib_socket.AF_INET
        self.is_closed = False
        self.is_write_shut = False
        self.peer: Endpoint
        self._on_io = on_io
        self._on_close = on_close
        self._incoming = bytearray()
        self._is_read_shut = False
        self._has_eof = False
        self._is_reset = False
        self._reset_is_news = False
        self._aborts = False
        self._readable = Waiting(lambda: self.is_readable)
        self._writable = Waiting(lambda: self._is_writable)

    # -- as a socket -------------------------------------------------------------------------------

    def fileno(self) -> int:
        """-1 when it is closed. What an open one says is no file descriptor."""
        return -1 if self.is_closed else NO_DESCRIPTOR

    def getsockname(self) -> Address:
        """Its own address. Raises :exc:`OSError` of a closed one."""
        self._check_open()
        return self.local

    def getpeername(self) -> Address:
        """The other end's address. Raises :exc:`OSError` once the connection is over."""
        self._check_connected()
        return self.remote

    def setsockopt(self, level: int, option: int, value: object) -> None:
        """``SO_LINGER`` and ``SO_RCVBUF`` do what they do; all others nothing."""
        self._check_open()
        if level != stdlib_socket.SOL_SOCKET:
            return
        if option == stdlib_socket.SO_LINGER and isinstance(value, bytes):
            lingers, seconds = struct.unpack("ii", value)
            self._aborts = bool(lingers) and seconds == 0
        elif option == stdlib_socket.SO_RCVBUF and isinstance(value, int):
            self.buffer_bytes = value
            self.peer._writable.wake()

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Hand over what the other end has room for.

        Raises :exc:`BlockingIOError` where it has none, and the :exc:`OSError` of a socket that is
        closed, shut or reset. To one whose other end has been closed bytes can be sent once: the
        reset comes as the answer to them.
        """
        self._attempt_io()
        self._tell_reset()
        if self.is_write_shut or self._is_reset:
            raise _error(errno.EPIPE)
        view = memoryview(data).cast("B")
        if not view:
            return 0
        if self.peer._refuses_bytes:
            self._be_reset()
            self.peer._be_reset()
            return len(view)
        room = self.peer.buffer_bytes - len(self.peer._incoming)
        if room <= 0:
            raise _error(errno.EAGAIN)
        taken = view[:room]
        self.peer._incoming += taken
        self.peer._readable.wake()
        return len(taken)

    def recv(self, max_bytes: int) -> bytes:
        """What has come, at most ``max_bytes``; b"" at the end of the other side.

        Raises :exc:`BlockingIOError` where nothing has, and the :exc:`OSError` of a socket that is
        closed or reset.
        """
        self._attempt_io()
        if self._incoming:
            data = bytes(self._incoming[:max_bytes])
            del self._incoming[:max_bytes]
            self.peer._writable.wake()
            return data
        if self._has_eof:
            return b""
        self._tell_reset()
        if self._is_reset or self._is_read_shut:
            return b""
        raise _error(errno.EAGAIN)

    def shutdown(self, how: int) -> None:
        """Half-close: the other end reads to the end of what was sent. ``SHUT_RD`` ends it for
        readers of this end, and what comes all the same can still be read."""
        self._check_connected()
        if how != stdlib_socket.SHUT_WR:
            self._is_read_shut = True
        if how != stdlib_socket.SHUT_RD:
            self.is_write_shut = True
            self.peer._be_ended()
        self._wake()

    def close(self) -> None:
        """Close this end; by a reset where bytes are unread or ``SO_LINGER`` says so. Idempotent.

        Who waits on it here gets :exc:`trio.ClosedResourceError`.
        """
        if self.is_closed:
            return
        self.is_closed = True
        self._on_close(self)
        if self._aborts or self._incoming:
            self.peer._be_reset()
        else:
            self.peer._be_ended()
        self._readable.close()
        self._writable.close()

    def abort(self) -> None:
        """Close this end by a reset."""
        self._aborts = True
        self.close()

    async def wait_readable(self) -> None:
        """Wait until :meth:`recv` has something to say. If cancelled, nothing has changed."""
        await self._readable.wait()

    async def wait_writable(self) -> None:
        """Wait until :meth:`send` has something to say. If cancelled, nothing has changed."""
        await self._writable.wait()

    @property
    def is_readable(self) -> bool:
        """Whether :meth:`recv` has something to say."""
        return bool(self._incoming) or self._has_eof or self._is_reset or self._is_read_shut

    # -- what becomes of it ------------------------------------------------------------------------

    @property
    def _is_writable(self) -> bool:
        peer = self.peer
        has_room = len(peer._incoming) < peer.buffer_bytes
        return has_room or self.is_write_shut or self._is_reset or peer.is_closed

    @property
    def _refuses_bytes(self) -> bool:
        return self.is_closed or (self._is_read_shut and self.is_write_shut)

    @property
    def _is_over(self) -> bool:
        """Whether nothing can go either way any more."""
        return self._is_reset or (self._has_eof and self.is_write_shut)

    def _check_open(self) -> None:
        if self.is_closed:
            raise _error(errno.EBADF)

    def _check_connected(self) -> None:
        self._check_open()
        if self._is_over:
            raise _error(errno.ENOTCONN)

    def _attempt_io(self) -> None:
        self._check_open()
        if self._is_reset:
            return
        try:
            self._on_io()
        except OSError:
            self._be_reset()
            self._reset_is_news = False
            self.peer._be_reset()
            raise

    def _tell_reset(self) -> None:
        if self._reset_is_news:
            self._reset_is_news = False
            raise _error(errno.ECONNRESET)

    def _be_ended(self) -> None:
        if not self._is_reset:
            self._has_eof = True
            self._wake()

    def _be_reset(self) -> None:
        if not self._is_over:
            self._is_reset = True
            self._reset_is_news = not self._has_eof
            self._wake()

    def _wake(self) -> None:
        self._readable.wake()
        self._writable.wake()


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
