"""Unix sockets: the file that is their address, and whose it is (unix(7))."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket as stdlib_socket
import stat

from trioproxy.net import DirectStream
from trioproxy.serving.listener import KernelListener

logger = logging.getLogger(__name__)

UMASK = 0o117
"""Who runs the proxy and its group may connect."""


class UnixListener(KernelListener):
    """A listening Unix socket that was bound here. Its file goes with it, unless another has taken
    the place."""

    def __init__(self, socket: stdlib_socket.socket, *, write_timeout: float) -> None:
        super().__init__(socket, write_timeout=write_timeout)
        self._path: str = socket.getsockname()
        self._file: tuple[int, int] | None = _identity(self._path)

    def close(self) -> None:
        """As any listener's, and the file is gone."""
        self._remove_file()
        super().close()

    def _take_waiting(self) -> list[DirectStream]:
        # First nobody gets in any more, not even who has found the file already: the kernel resets
        # who comes between the last that is accepted and the closing.
        self._remove_file()
        with contextlib.suppress(OSError):
            self.socket.shutdown(stdlib_socket.SHUT_RD)
        return super()._take_waiting()

    def _remove_file(self) -> None:
        file, self._file = self._file, None  # once
        try:
            # Its number is nobody else's as long as the socket is open.
            if file is not None and _identity(self._path) == file:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("the file of a socket that is closed stays: %s", error)


def bind_unix(path: str) -> stdlib_socket.socket:
    """A socket with this address. Takes the place of one whose process has died. Raises
    :exc:`OSError`, where one is in use too."""
    if _is_stale(path):
        os.unlink(path)
    socket = stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM)
    umask = os.umask(UMASK)
    try:
        socket.bind(path)
    except BaseException:
        socket.close()
        raise
    finally:
        os.umask(umask)
    return socket


def _is_stale(path: str) -> bool:
    """Whether a socket is there that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return False


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
