"""Unix sockets: the file that is their address, and whose it is (unix(7))."""

from __future__ import annotations

import contextlib
import errno
import os
import socket as stdlib_socket
import stat

from trioproxy.serving.listener import KernelListener

UMASK = 0o117
"""Who runs the proxy and its group may connect."""


class UnixListener(KernelListener):
    """A listening Unix socket that was bound here. Its file goes with it, unless another has taken
    the place."""

    def __init__(self, socket: stdlib_socket.socket, *, write_timeout: float) -> None:
        super().__init__(socket, write_timeout=write_timeout)
        self._path: str = socket.getsockname()
        self._file = _identity(self._path)

    def close(self) -> None:
        """As any listener's, and the file is gone."""
        with contextlib.suppress(FileNotFoundError):
            if _identity(self._path) == self._file:
                os.unlink(self._path)
        super().close()


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
