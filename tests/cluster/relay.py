"""A relay before a server, which a test can cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import trio


class Relay:
    """What passes to the server and back. ``bytes_until_cut`` is how many bytes of replies it still
    lets through before it cuts the connection (None: as many as come)."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.bytes_until_cut: int | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def carry(self, server_port: int, client: trio.SocketStream) -> None:
        """One connection, to its end."""
        self.connections += 1
        server = await trio.open_tcp_stream("127.0.0.1", server_port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, client, server, False)
            await self._pass_on(server, client, True)
            nursery.cancel_scope.cancel()

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, is_counted: bool
    ) -> None:
        try:
            async for data in source:
                if is_counted and self.bytes_until_cut is not None:
                    passed = data[: self.bytes_until_cut]
                    self.bytes_until_cut -= len(passed)
                    await sink.send_all(passed)
                    if self.bytes_until_cut == 0:
                        self.bytes_until_cut = None
                        return
                else:
                    await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


@asynccontextmanager
async def open_relay(server_port: int) -> AsyncGenerator[Relay]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        relay = Relay(listener.socket.getsockname()[1])
        serve = partial(trio.serve_listeners, partial(relay.carry, server_port), [listener])
        nursery.start_soon(serve)
        yield relay
        nursery.cancel_scope.cancel()
