"""The whole proxy on a virtual network: from the bytes that come in to those that go out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from trioproxy.config import Settings
from trioproxy.net import DirectStream, take_over
from trioproxy.serving import Proxy, open_proxy
from trioproxy.serving.listener import ClientListener
from trioproxy.testing.network import VirtualNetwork, VirtualSocket

ADDRESS = ("127.0.0.1", 9010)


class VirtualListener(ClientListener):
    """Hands clients of a virtual network to the proxy."""

    def __init__(self, socket: VirtualSocket, *, write_timeout: float) -> None:
        self.address = "{}:{}".format(*socket.getsockname())
        self._listener = trio.SocketListener(socket)
        self._write_timeout = write_timeout

    async def accept(self) -> DirectStream:
        """The next client. If cancelled, none was taken."""
        stream = await self._listener.accept()
        return DirectStream(take_over(stream.socket), write_timeout=self._write_timeout)

    async def aclose(self) -> None:
        """Stop listening, and a checkpoint."""
        await self._listener.aclose()


@asynccontextmanager
async def open_virtual_proxy(
    network: VirtualNetwork, settings: Settings, *, upstream_url: str
) -> AsyncGenerator[Proxy]:
    """Serve on ``network``, which must have been entered, for the length of the block.

    It is the proxy itself, every layer of it: only the kernel's sockets are missing. As
    :func:`~trioproxy.serving.open_proxy` otherwise.
    """
    with network.socket() as socket:
        await socket.bind(ADDRESS)

        def listen() -> list[VirtualListener]:
            socket.listen()
            return [VirtualListener(socket, write_timeout=settings.write_timeout)]

        async with open_proxy(settings, upstream_url=upstream_url, listen_on=listen) as proxy:
            yield proxy
