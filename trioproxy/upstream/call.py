"""One HTTP call, and the promise that nothing of it stays behind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache

import httpx

from trioproxy.upstream.errors import UpstreamBroken, UpstreamUnreachable
from trioproxy.upstream.request import Head, UpstreamRequest
from trioproxy.upstream.transport import ResponseBody, TrioTransport, describe


class Answer:
    """The upstream's answer: its head, and its body as an iterator of chunks, each as it came."""

    def __init__(
        self,
        response: httpx.Response,
        chunks: AsyncIterator[bytes],
        *,
        connected_at: float | None = None,
    ) -> None:
        self.head = Head(
            response.status_code,
            [(name.lower(), value) for name, value in response.headers.raw],
            connected_at,
        )
        self._chunks = chunks

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.receive():
            return chunk
        raise StopAsyncIteration

    async def receive(self) -> bytes:
        """The next chunk; b"" at the end. Raises :class:`UpstreamBroken`. If cancelled, the answer
        is of no further use."""
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            return b""
        except httpx.HTTPError as error:
            raise UpstreamBroken(f"the upstream's answer broke off: {describe(error)}") from error


@asynccontextmanager
async def open_call(
    transport: TrioTransport,
    base_url: httpx.URL,
    request: UpstreamRequest,
    *,
    connect_timeout: float,
) -> AsyncGenerator[Answer]:
    """Send the request and wait for the answer's head; the block reads the body; leaving closes the
    connection, unless the body was read to its end and the connection is worth keeping.

    Raises :class:`UpstreamUnreachable` before the request was sent, :class:`UpstreamBroken` after.
    Whatever cancels it, and at whatever point (the TLS handshake included), the socket is closed
    synchronously on the way out, before anything is awaited.
    """
    with typed_failures():
        response = await transport.handle_async_request(
            build_request(base_url, request, connect_timeout=connect_timeout)
        )
    body = response.stream
    assert isinstance(body, ResponseBody)
    try:
        yield Answer(response, body, connected_at=body.connected_at)
    finally:
        body.close()


def build_request(
    base_url: httpx.URL, request: UpstreamRequest, *, connect_timeout: float
) -> httpx.Request:
    """The request as httpx has it: made by hand, so that it has none of a client's own headers."""
    return httpx.Request(
        request.method,
        _url(str(base_url), request.target),
        headers=request.all_headers,
        content=request.body or None,
        extensions={"timeout": httpx.Timeout(None, connect=connect_timeout).as_dict()},
    )


@lru_cache(maxsize=64)  # few of many calls have a target of their own, and parsing is dear
def _url(base: str, target: bytes) -> httpx.URL:
    base_url = httpx.URL(base)
    return base_url.copy_with(raw_path=base_url.raw_path.rstrip(b"/") + target)


@contextmanager
def typed_failures() -> Generator[None]:
    """Of a call that has no answer yet, as errors of this package."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise UpstreamUnreachable(f"the upstream cannot be reached: {describe(error)}") from error
    except httpx.HTTPError as error:
        raise UpstreamBroken(f"the upstream did not answer: {describe(error)}") from error
