"""A call by way of a proxy that the environment names: httpx's own business, transport and all.

Each such call has a client, and so a connection, of its own: httpcore's pool loses a slot for every
call that is cancelled while it connects (httpcore #1093), until none is left.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.request import getproxies

import httpx
import trio

from trioproxy.fanout import grace
from trioproxy.upstream.call import Answer, build_request, typed_failures
from trioproxy.upstream.request import UpstreamRequest

TIDY_SECONDS = 1.0
"""How long httpx may take to put its own house in order once the socket is closed."""

CHUNKS_AT_ONCE = 8
"""So many chunks may one call handle before others get their turn."""


def environment_names_proxy(base_url: httpx.URL) -> bool:
    """Whether a proxy for such URLs is in the environment. (Whether it has an exception for this
    one, httpx finds out.)"""
    return not getproxies().keys().isdisjoint({base_url.scheme, "all"})


@asynccontextmanager
async def open_proxied_call(
    base_url: httpx.URL,
    request: UpstreamRequest,
    *,
    ssl_context: ssl.SSLContext,
    connect_timeout: float,
) -> AsyncGenerator[Answer]:
    """As :func:`~trioproxy.upstream.call.open_call`, by way of the environment's proxy."""
    connection = ConnectionRegister()
    tidying = AsyncExitStack()
    try:
        client = await tidying.enter_async_context(
            httpx.AsyncClient(verify=ssl_context, trust_env=True)
        )
        built = build_request(base_url, request, connect_timeout=connect_timeout)
        built.extensions["trace"] = connection.trace
        built.stream = RequestBody(request.body)
        with typed_failures():
            response = await client.send(built, stream=True)
        chunks = response.aiter_raw()
        tidying.push_async_callback(_exhaust, chunks)
        tidying.push_async_callback(response.aclose)
        yield Answer(response, InTurns(chunks))
    finally:
        connection.close()
        with grace(TIDY_SECONDS):
            await tidying.aclose()


class ConnectionRegister:
    """Knows the socket of a call from the moment it is connected, and can close it without waiting.

    httpcore closes a connection by awaiting, and forgets one whose TLS handshake is cancelled. Its
    ``trace`` extension (httpx documentation, "Request extensions") tells of each step and hands
    over the stream.
    """

    def __init__(self) -> None:
        self._sockets: list[trio.socket.SocketType] = []

    async def trace(self, step: str, info: Mapping[str, Any]) -> None:
        if step == "connection.connect_tcp.complete":
            self._sockets.append(info["return_value"].get_extra_info("socket"))

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()


class RequestBody(httpx.AsyncByteStream):
    """The body of one request, in one piece.

    Not a generator, as httpx's own is: one that is cancelled while the body is sent would be left
    to the garbage collector.
    """

    def __init__(self, body: bytes) -> None:
        self._unsent = [body] if body else []

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        if not self._unsent:
            raise StopAsyncIteration
        return self._unsent.pop()


class InTurns:
    """Chunks, each eighth with a checkpoint: httpx hands out what it has received already without
    any, which can be hundreds when the machine is busy."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._taken = 0

    def __aiter__(self) -> InTurns:
        return self

    async def __anext__(self) -> bytes:
        self._taken += 1
        if self._taken % CHUNKS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        return await anext(self._chunks)


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    # httpx reads a body through generators within generators. Closing the outermost would leave the
    # others to the garbage collector; reading on finishes every one of them. It ends soon, because
    # behind what was received already there is only a closed socket. (StreamClosed: nothing was
    # read of it yet.)
    with suppress(httpx.HTTPError, httpx.StreamClosed):
        async for _ in chunks:
            await trio.lowlevel.checkpoint()
