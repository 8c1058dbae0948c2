"""Where clients come in: the addresses that are listened on."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable, Sequence

from hypercorn.config import Config

from trioproxy.config import UNIX
from trioproxy.serving.listener import ClientListener, KernelListener
from trioproxy.serving.shared_port import SharedPortListener
from trioproxy.serving.unix import UnixListener, bind_unix

MAX_UNSENT_BYTES = 16 * 1024
"""What the kernel takes of a connection beyond what it can send: a client that stops reading is
felt soon."""

Listen = Callable[[], Sequence[ClientListener]]
"""Begins to listen: from here on clients get in. Raises :exc:`OSError`."""


def listen(
    config: Config, *, write_timeout: float, reuse_port: bool = False
) -> list[KernelListener]:
    """Listen on each address of ``config.bind``; ``reuse_port`` lets other processes of the same
    user do so too, where it is one of TCP. Raises :exc:`OSError`, and listens on none then."""
    listeners: list[KernelListener] = []
    try:
        for address in config.bind:
            if address.startswith(UNIX):
                socket, kind = bind_unix(address.removeprefix(UNIX)), UnixListener
            else:
                socket = _bind_tcp(address, reuse_port=reuse_port)
                kind = SharedPortListener if reuse_port else KernelListener
            listeners.append(kind(socket, write_timeout=write_timeout))
            set_options(socket, write_timeout)
            # At once: what is bound and not listened on looks as if its process had died.
            socket.listen(config.backlog)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def set_options(socket: stdlib_socket.socket, write_timeout: float) -> None:
    """What accepted sockets inherit (tcp(7)): tokens go out at once, little piles up, and the
    kernel ends connections whose peer has vanished."""
    socket.setblocking(False)
    if socket.family not in (stdlib_socket.AF_INET, stdlib_socket.AF_INET6):
        return
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
    tcp = stdlib_socket.IPPROTO_TCP
    socket.setsockopt(tcp, stdlib_socket.TCP_NODELAY, 1)
    if hasattr(stdlib_socket, "TCP_NOTSENT_LOWAT"):
        socket.setsockopt(tcp, stdlib_socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
    if hasattr(stdlib_socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, int(min(write_timeout * 1000, 2**31 - 1)))
        socket.setsockopt(tcp, stdlib_socket.TCP_USER_TIMEOUT, milliseconds)


def _bind_tcp(address: str, *, reuse_port: bool) -> stdlib_socket.socket:
    host, _, port = address.rpartition(":")
    is_v6 = host.startswith("[")
    family = stdlib_socket.AF_INET6 if is_v6 else stdlib_socket.AF_INET
    socket = stdlib_socket.socket(family, stdlib_socket.SOCK_STREAM)
    try:
        socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
        if reuse_port:
            socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEPORT, 1)
        socket.bind((host.strip("[]"), int(port)))
    except BaseException:
        socket.close()
        raise
    return socket
