"""The network itself: who listens where, and which connections are open."""

from __future__ import annotations

import errno
import itertools
import os
import socket as stdlib_socket
from collections.abc import Callable
from typing import Any

import trio

from trioproxy.testing.network.endpoint import DEFAULT_BUFFER, Address, Endpoint
from trioproxy.testing.network.socket import EVERY_ADDRESS, VirtualSocket

LOCALHOST = "127.0.0.1"
FIRST_FREE_PORT = 49152  # where the dynamic ports begin (RFC 6335, section 6)


class VirtualNetwork(trio.abc.SocketFactory, trio.abc.HostnameResolver):
    """TCP in memory for the trio run in which its block is entered.

    There is one host, with IPv4: every name and address stands for it. ``buffer_bytes`` is what a
    connection holds in each direction. ``on_io`` is called before each attempt to connect, accept,
    send or receive (one that has to wait is attempted again after it); an :exc:`OSError` that it
    raises is what that attempt fails with, and resets the connection that it was about.

    ``open_endpoints`` are the ends of connections that have not been closed, for a test to look at:
    a network that is left while some are open does not mind.
    """

    def __init__(
        self,
        *,
        buffer_bytes: int = DEFAULT_BUFFER,
        on_io: Callable[[], object] = lambda: None,
    ) -> None:
        self.buffer_bytes = buffer_bytes
        self.on_io = on_io
        self.open_endpoints: dict[Endpoint, None] = {}
        self._bound: set[int] = set()
        self._listeners: dict[int, Callable[[Endpoint], object]] = {}
        self._ports = itertools.cycle(range(FIRST_FREE_PORT, 2**16))
        self._replaced: tuple[trio.abc.SocketFactory | None, trio.abc.HostnameResolver | None]

    def __enter__(self) -> VirtualNetwork:
        self._replaced = (
            trio.socket.set_custom_socket_factory(self),
            trio.socket.set_custom_hostname_resolver(self),
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        factory, resolver = self._replaced
        trio.socket.set_custom_socket_factory(factory)
        trio.socket.set_custom_hostname_resolver(resolver)

    # -- what trio asks of it ----------------------------------------------------------------------

    def socket(
        self,
        family: stdlib_socket.AddressFamily | int = stdlib_socket.AF_INET,
        type: stdlib_socket.SocketKind | int = stdlib_socket.SOCK_STREAM,
        proto: int = 0,
    ) -> VirtualSocket:
        """A fresh socket. Raises :exc:`OSError` for any but a stream's over IPv4."""
        if family != stdlib_socket.AF_INET:
            raise _error(errno.EAFNOSUPPORT)
        if type != stdlib_socket.SOCK_STREAM:
            raise _error(errno.ESOCKTNOSUPPORT)
        return VirtualSocket(self)

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """One address for every name."""
        await trio.lowlevel.checkpoint()
        number = int(port or 0)
        kind = stdlib_socket.SOCK_STREAM
        return [(stdlib_socket.AF_INET, kind, stdlib_socket.IPPROTO_TCP, "", (LOCALHOST, number))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """The address itself."""
        await trio.lowlevel.checkpoint()
        return str(sockaddr[0]), str(sockaddr[1])

    # -- what its sockets ask of it ----------------------------------------------------------------

    def bind(self, host: str, port: int) -> Address:
        """Take an address: any port for 0. Raises :exc:`OSError` where it is in use."""
        if port == 0:
            port = self._free_port()
        if port in self._bound:
            raise _error(errno.EADDRINUSE)
        self._bound.add(port)
        return _numeric(host), port

    def unbind(self, address: Address) -> None:
        """Give an address back; who connects there is refused from now on."""
        self._bound.discard(address[1])
        self._listeners.pop(address[1], None)

    def listen(self, address: Address, arrive: Callable[[Endpoint], object]) -> None:
        """Hand the far end of each new connection to ``arrive``."""
        self._listeners[address[1]] = arrive

    def connect(self, host: str, port: int, *, local: Address | None = None) -> Endpoint:
        """A new connection to who listens there; the near end of it. Raises :exc:`OSError`."""
        arrive = self._listeners.get(port)
        if arrive is None:
            raise _error(errno.ECONNREFUSED)
        client = local or (LOCALHOST, self._free_port())
        server = _numeric(host), port
        near, far = self._endpoint(client, server), self._endpoint(server, client)
        near.peer, far.peer = far, near
        arrive(far)
        return near

    def _free_port(self) -> int:
        return next(port for port in self._ports if port not in self._bound)

    def _endpoint(self, local: Address, remote: Address) -> Endpoint:
        endpoint = Endpoint(
            local,
            remote,
            buffer_bytes=self.buffer_bytes,
            on_io=lambda: self.on_io(),
            on_close=self._forget,
        )
        self.open_endpoints[endpoint] = None
        return endpoint

    def _forget(self, endpoint: Endpoint) -> None:
        del self.open_endpoints[endpoint]


def _numeric(host: str) -> str:
    """An address as it is; of a name, the one for which every name stands."""
    try:
        stdlib_socket.inet_pton(stdlib_socket.AF_INET, host)
    except OSError:
        return LOCALHOST if host else EVERY_ADDRESS
    return host


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
