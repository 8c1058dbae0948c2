"""trio's socket, on an endpoint in memory."""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from trioproxy.testing.network.endpoint import NO_DESCRIPTOR, Address, Endpoint
from trioproxy.testing.network.waiting import Waiting

if TYPE_CHECKING:
    from trioproxy.testing.network.network import VirtualNetwork

T = TypeVar("T")

EVERY_ADDRESS = "0.0.0.0"


class VirtualSocket(trio.socket.SocketType):
    """A stream socket of a :class:`VirtualNetwork`: fresh, bound, listening or connected.

    It has the methods of :class:`trio.socket.SocketType` that streams and listeners need; another
    raises :exc:`NotImplementedError`. Those that wait, and :meth:`bind`, are checkpoints even where
    they fail.
    """

    def __init__(self, network: VirtualNetwork, endpoint: Endpoint | None = None) -> None:
        self._network = network
        self._endpoint = endpoint
        self._options: list[tuple[int, int, Any]] = []
        self._bound: Address | None = None
        self._backlog: deque[Endpoint] | None = None
        self._arrivals = Waiting(lambda: bool(self._backlog))
        self._is_closed = False

    @property
    def endpoint(self) -> Endpoint:
        """What a connected socket stands on. Raises the :exc:`OSError` of one that is not."""
        if self._endpoint is None:
            raise _error(errno.EBADF if self._is_closed else errno.ENOTCONN)
        return self._endpoint

    @property
    def family(self) -> stdlib_socket.AddressFamily:
        return stdlib_socket.AF_INET

    @property
    def type(self) -> stdlib_socket.SocketKind:
        return stdlib_socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return stdlib_socket.IPPROTO_TCP

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802 (trio's name)
        return self._endpoint is not None and self._endpoint.is_write_shut

    def __repr__(self) -> str:
        where = "closed" if self._is_closed else "{}:{}".format(*self.getsockname())
        return f"<VirtualSocket {where}>"

    def fileno(self) -> int:
        """-1 when it is closed. What an open one says is no file descriptor."""
        return -1 if self._is_closed else NO_DESCRIPTOR

    def getsockname(self) -> Address:
        """Its own address; ("0.0.0.0", 0) of a fresh one. Raises :exc:`OSError` of a closed one."""
        self._check_open()
        if self._endpoint is not None:
            return self._endpoint.getsockname()
        return self._bound or (EVERY_ADDRESS, 0)

    def getpeername(self) -> Address:
        return self.endpoint.getpeername()

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        """1 for ``SO_ACCEPTCONN`` of a listening socket; else 0."""
        asks_listening = (level, optname) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN)
        return int(asks_listening and self._backlog is not None)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        """See :meth:`Endpoint.setsockopt`; of a fresh socket it counts once that is connected, of a
        listening one for whoever connects from then on."""
        self._check_open()
        if self._endpoint is None:
            self._options.append((level, optname, value))
        else:
            self._endpoint.setsockopt(level, optname, value)

    def _check_open(self) -> None:
        if self._is_closed:
            raise _error(errno.EBADF)

    def _give_options_to(self, endpoint: Endpoint) -> None:
        for level, option, value in self._options:
            endpoint.setsockopt(level, option, value)

    # -- listening ---------------------------------------------------------------------------------

    async def bind(self, address: Any) -> None:
        """Take a local address, port 0 being any. Raises :exc:`OSError`. If cancelled, none was
        taken."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._bound or self._endpoint:
            raise _error(errno.EINVAL)
        self._bound = self._network.bind(address[0], address[1])

    def listen(self, backlog: int = 128) -> None:
        """Let clients in from now on, however many wait. Raises :exc:`OSError`."""
        self._check_open()
        if self._endpoint is not None:
            raise _error(errno.EINVAL)
        if self._bound is None:
            self._bound = self._network.bind(EVERY_ADDRESS, 0)
        if self._backlog is None:
            self._backlog = deque()
            self._network.listen(self._bound, self._arrive)

    async def accept(self) -> tuple[VirtualSocket, Address]:
        """The next connection. If cancelled, none was taken."""
        endpoint = await self._attempt(self._accept_nowait, self._arrivals.wait)
        return VirtualSocket(self._network, endpoint), endpoint.remote

    def _accept_nowait(self) -> Endpoint:
        self._check_open()
        if self._backlog is None:
            raise _error(errno.EINVAL)
        try:
            self._network.on_io()
        except OSError:
            if self._backlog:
                self._backlog.popleft().abort()
            raise
        if not self._backlog:
            raise _error(errno.EAGAIN)
        return self._backlog.popleft()

    def _arrive(self, endpoint: Endpoint) -> None:
        assert self._backlog is not None
        self._give_options_to(endpoint)
        self._backlog.append(endpoint)
        self._arrivals.wake()

    # -- connected ---------------------------------------------------------------------------------

    async def connect(self, address: Any) -> None:
        """Connect. Raises :exc:`OSError`: refused where nobody listens.

        If cancelled, the socket is closed (as trio's own is), and the other side may have seen a
        client come and go.
        """
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                self._endpoint = self._connect_nowait(address[0], address[1])
            except OSError:
                await trio.lowlevel.cancel_shielded_checkpoint()
                raise
            await self._endpoint.wait_writable()
        except trio.Cancelled:
            self.close()
            raise

    def _connect_nowait(self, host: str, port: int) -> Endpoint:
        self._check_open()
        if self._endpoint is not None or self._backlog is not None:
            raise _error(errno.EISCONN)
        self._network.on_io()
        endpoint = self._network.connect(host, port, local=self._bound)
        self._give_options_to(endpoint)
        return endpoint

    async def send(self, data: Any, flags: int = 0, /) -> int:
        """Send at least a byte, once there is room. If cancelled, nothing was sent."""
        _check_no_flags(flags)
        return await self._attempt(lambda: self._to_send_on().send(data), self.wait_writable)

    def _to_send_on(self) -> Endpoint:
        if self._endpoint is None and not self._is_closed:
            raise _error(errno.EPIPE)
        return self.endpoint

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        """Receive at least a byte, or b"" at the end. If cancelled, nothing was received."""
        _check_no_flags(flags)
        return await self._attempt(lambda: self.endpoint.recv(buflen), self._wait_readable)

    async def wait_writable(self) -> None:
        """Wait until bytes can be sent. If cancelled, nothing has changed."""
        await self.endpoint.wait_writable()

    async def _wait_readable(self) -> None:
        await self.endpoint.wait_readable()

    def is_readable(self) -> bool:
        """Whether there is something to receive, or somebody to accept."""
        return bool(self._backlog) if self._endpoint is None else self._endpoint.is_readable

    def shutdown(self, flag: int) -> None:
        """See :meth:`Endpoint.shutdown`."""
        self.endpoint.shutdown(flag)

    def close(self) -> None:
        """Close it; who waits on it gets :exc:`trio.ClosedResourceError`, and clients that were not
        accepted are reset. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._bound is not None:
            self._network.unbind(self._bound)
        while self._backlog:
            self._backlog.popleft().abort()
        self._arrivals.close()
        if self._endpoint is not None:
            self._endpoint.close()

    def __enter__(self) -> VirtualSocket:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def _attempt(
        self, action: Callable[[], T], wait_until_possible: Callable[[], Awaitable[None]]
    ) -> T:
        """Act at once if that is possible, and let others run then; or as soon as it is."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            result = action()
        except BlockingIOError:
            return await _act_when_possible(action, wait_until_possible)
        except OSError:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise
        await trio.lowlevel.cancel_shielded_checkpoint()
        return result


async def _act_when_possible(
    action: Callable[[], T], wait_until_possible: Callable[[], Awaitable[None]]
) -> T:
    while True:
        await wait_until_possible()
        try:
            return action()
        except BlockingIOError:
            continue  # another task was quicker


def _check_no_flags(flags: int) -> None:
    if flags:
        raise _error(errno.EOPNOTSUPP)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
