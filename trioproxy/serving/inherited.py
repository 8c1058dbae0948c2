"""Listening sockets that another process has opened and keeps: systemd's way of starting a service
for who comes (sd_listen_fds(3)).

They stay open when this process ends, so nobody is refused meanwhile.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
from collections.abc import MutableMapping

from trioproxy.config import TOO_OPEN, Settings
from trioproxy.net import DirectStream
from trioproxy.serving.listener import KernelListener
from trioproxy.serving.listening import set_options

FIRST = 3
"""The first of the descriptors."""


class InheritedListener(KernelListener):
    """A listening socket that others hold too. Who waits in it when this process goes is for the
    next one to accept."""

    def _take_waiting(self) -> list[DirectStream]:
        return []


def take_inherited(environ: MutableMapping[str, str]) -> list[stdlib_socket.socket]:
    """The sockets that were handed to this process; none, as a rule. Takes the variables that tell
    of them out of ``environ``: no child is to think that it is meant.

    Raises :exc:`OSError` for what is no listening stream socket.
    """
    process, number = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS"))
    environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()):
        return []
    sockets = [_take(fileno) for fileno in range(FIRST, FIRST + int(number))]
    for socket in sockets:
        listens = socket.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN)
        if not listens or socket.type != stdlib_socket.SOCK_STREAM:
            for each in sockets:
                each.close()
            raise OSError(errno.ENOTSUP, "no listening stream socket", "what was handed over")
    return sockets


def listen_on_inherited(
    sockets: list[stdlib_socket.socket],
    settings: Settings,
    kind: type[KernelListener] = InheritedListener,
) -> list[KernelListener]:
    """Listen on sockets that listen already. Raises :exc:`OSError` where ``settings`` do not let
    others in who can reach them."""
    listeners = [kind(socket, write_timeout=settings.write_timeout) for socket in sockets]
    for listener in listeners:
        if not settings.may_listen_on(listener.address):
            for each in listeners:
                each.close()
            raise OSError(errno.EPERM, f"it {TOO_OPEN}", listener.address)
        set_options(listener.socket, settings.write_timeout)
    return listeners


def _take(fileno: int) -> stdlib_socket.socket:
    os.set_inheritable(fileno, False)
    return stdlib_socket.socket(fileno=fileno)
