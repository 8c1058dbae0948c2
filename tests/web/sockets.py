"""A WebSocket client of the proxy, for tests: trio-websocket, which nobody here wrote."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.support.rawhttp import WITHIN
from tests.support.websocket import HANDSHAKE
from tests.web.service import Service

SUBPROTOCOL = "trioproxy.v1"


class Socket:
    """One WebSocket; what comes is JSON, and comes in time."""

    def __init__(self, connection: WebSocketConnection, stream: trio.SocketStream) -> None:
        self.connection = connection
        self.stream = stream

    async def say(self, **message: Any) -> None:
        """Send one message."""
        with trio.fail_after(WITHIN):
            await self.connection.send_message(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        with trio.fail_after(WITHIN):
            return json.loads(await self.connection.get_message())

    async def ask(self, **message: Any) -> dict[str, Any]:
        """Send one message, and return the next that comes."""
        await self.say(**message)
        return await self.hear()

    async def hear_to_end(self) -> list[dict[str, Any]]:
        """All messages up to the one that tells an end, which is the last."""
        heard = [await self.hear()]
        while heard[-1]["type"] not in ("end", "evicted"):
            heard.append(await self.hear())
        return heard

    async def wait_closed(self) -> tuple[int, str]:
        """Read until the other side closes: its code and its reason."""
        with trio.fail_after(WITHIN):
            while True:
                try:
                    await self.connection.get_message()
                except ConnectionClosed as closed:
                    reason = closed.reason
                    return (reason.code, reason.reason or "") if reason else (0, "")


@asynccontextmanager
async def open_socket(
    service: Service,
    path: str = "/v1/ws",
    *,
    headers: dict[str, str] | None = None,
    subprotocols: list[str] | None = None,
) -> AsyncGenerator[Socket]:
    """A WebSocket of the proxy, for the length of the block.

    The stream is ours, because trio-websocket leaves one to the garbage collector that was refused
    or closed by the server.
    """
    pairs = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
    host, port = service.url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as tasks:
        connection = await wrap_client_stream(
            tasks,
            stream,
            f"{host}:{port}",
            path,
            extra_headers=pairs,
            subprotocols=subprotocols,
        )
        yield Socket(connection, stream)
        await connection.aclose()
        tasks.cancel_scope.cancel(reason="the test is through with it")


async def shake_hands(
    service: Service, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The response to a handshake that is refused."""
    return await service.http.get(path, headers=HANDSHAKE | (headers or {}))
