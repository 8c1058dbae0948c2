"""One HTTP call by httpx, and the promise that nothing of it stays behind.

This is the only module that makes calls with httpx. Each call has a client, and so a connection, of
its own: a shared pool loses a slot for every call that is cancelled while it connects (httpcore
#1093), until none is left. What is shared is the TLS context, which is what costs.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import trio

from trioproxy.fanout import grace
from trioproxy.upstream.errors import UpstreamBroken, UpstreamUnreachable
from trioproxy.upstream.request import Head, UpstreamRequest

TIDY_SECONDS = 1.0
"""How long httpx may take to put its own house in order once the socket is closed."""

CHUNKS_AT_ONCE = 8
"""So many chunks may one call handle before others get their turn."""


class Answer:
    """The upstream's answer: its head, and its body as an iterator of chunks, each as it came."""

    def __init__(self, response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
        self.head = Head(
            response.status_code,
            [(name.lower(), value) for name, value in response.headers.raw],
        )
        self._chunks = chunks
        self._taken = 0

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk. Raises :class:`UpstreamBroken`. If cancelled, the answer is of no
        further use.

        httpx hands out what it has received already without a checkpoint, which can be hundreds of
        chunks when the machine is busy; here each eighth is one.
        """
        self._taken += 1
        if self._taken % CHUNKS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        try:
            return await anext(self._chunks)
        except httpx.HTTPError as error:
            raise UpstreamBroken(f"the upstream's answer broke off: {_describe(error)}") from error


@asynccontextmanager
async def open_call(
    base_url: httpx.URL,
    request: UpstreamRequest,
    *,
    ssl_context: ssl.SSLContext,
    connect_timeout: float,
    trust_env: bool,
) -> AsyncGenerator[Answer]:
    """Send the request and wait for the answer's head; the block reads the body; leaving closes the
    connection.

    Raises :class:`UpstreamUnreachable` before the request was sent, :class:`UpstreamBroken` after.
    Whatever cancels it, and at whatever point (the TLS handshake included), the socket is closed
    synchronously on the way out, before anything is awaited.
    """
    connection = ConnectionRegister()
    tidying = AsyncExitStack()
    try:
        client = await tidying.enter_async_context(
            httpx.AsyncClient(
                verify=ssl_context,
                trust_env=trust_env,
                timeout=httpx.Timeout(None, connect=connect_timeout),
            )
        )
        response = await _send(client, _build(base_url, request, connection))
        chunks = response.aiter_raw()
        tidying.push_async_callback(_exhaust, chunks)
        tidying.push_async_callback(response.aclose)
        yield Answer(response, chunks)
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


def _build(
    base_url: httpx.URL, request: UpstreamRequest, connection: ConnectionRegister
) -> httpx.Request:
    # Made by hand, so that it has none of the client's own headers.
    prefix = base_url.raw_path.rstrip(b"/")
    built = httpx.Request(
        request.method,
        base_url.copy_with(raw_path=prefix + request.target),
        headers=request.headers,
        content=request.body or None,
        extensions={"trace": connection.trace},
    )
    built.stream = RequestBody(request.body)
    return built


async def _send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        return await client.send(request, stream=True)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise UpstreamUnreachable(f"the upstream cannot be reached: {_describe(error)}") from error
    except httpx.HTTPError as error:
        raise UpstreamBroken(f"the upstream did not answer: {_describe(error)}") from error


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    # httpx reads a body through generators within generators. Closing the outermost would leave the
    # others to the garbage collector; reading on finishes every one of them. It ends soon, because
    # behind what was received already there is only a closed socket. (StreamClosed: nothing was
    # read of it yet.)
    with suppress(httpx.HTTPError, httpx.StreamClosed):
        async for _ in chunks:
            await trio.lowlevel.checkpoint()


def _describe(error: Exception) -> str:
    # What failed in a TLS handshake is only told by the innermost of four errors. (By context,
    # because httpcore takes the cause away.)
    telling: BaseException | None = error
    while telling is not None and not str(telling):
        telling = telling.__context__
    return str(telling or type(error).__name__)
