"""One request by httpx on a connection of its own, and the promise that nothing of it is left.

httpx reads a body through generators within generators, and httpcore closes by awaiting. Neither
can be trusted with a cancellation, so each connection knows its socket from the moment it is
connected, and is closed in two parts: the socket, synchronously; then what is left in memory, which
has nothing to wait for any more. A cancellation that comes in the second part is delivered there
and does not hinder it: it ends the generators as the end of the socket would.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
import trio

from trioproxy.client.errors import AttemptFailed

MAX_WHOLE_BYTES = 1 << 20
"""So much of a body that is read whole is read."""


class Connector:
    """Makes connections to one server, and closes those that are left when it is closed.

    ``connect_timeout`` is in seconds; so is ``silence_timeout``, after which a connection on which
    nothing comes is given up.
    """

    def __init__(
        self,
        base_url: httpx.URL,
        *,
        ssl_context: ssl.SSLContext,
        connect_timeout: float,
        silence_timeout: float,
        trust_env: bool,
    ) -> None:
        self._base_url = base_url
        self._ssl_context = ssl_context
        self._timeout = httpx.Timeout(None, connect=connect_timeout)
        self._silence_timeout = silence_timeout
        self._trust_env = trust_env
        self._open: set[Connection] = set()
        self._is_closed = False

    async def open(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Connection:
        """Make a request, and wait for the head of its answer.

        Raises :class:`AttemptFailed`, and :exc:`trio.ClosedResourceError` of a connector that has
        been closed. If cancelled, the connection is closed; whether the server took the request
        nobody knows.
        """
        if self._is_closed:
            raise trio.ClosedResourceError("the client has been closed")
        prefix = self._base_url.raw_path.rstrip(b"/")
        request = httpx.Request(
            method,
            self._base_url.copy_with(raw_path=prefix + target.encode()),
            headers=headers,
            content=body or None,
        )
        request.stream = _Body(body)
        client = httpx.AsyncClient(
            verify=self._ssl_context, trust_env=self._trust_env, timeout=self._timeout
        )
        connection = Connection(client, self._silence_timeout, self._open)
        try:
            await connection.send(request)
        except BaseException:
            await connection.aclose()  # noqa: ASYNC102 - closes first, and waits for nothing
            raise
        return connection

    async def aclose(self) -> None:
        """Close every connection that is open; all their sockets first, and synchronously."""
        self._is_closed = True
        async with AsyncExitStack() as stack:
            for connection in list(self._open):
                connection.close()
                stack.push_async_callback(connection.aclose)


class Connection:
    """One request and its answer: ``status`` and ``headers`` are there once it was sent. It is in
    ``register`` for as long as it is open."""

    status: int
    headers: httpx.Headers

    def __init__(
        self, client: httpx.AsyncClient, silence_timeout: float, register: set[Connection]
    ) -> None:
        self._client = client
        self._silence_timeout = silence_timeout
        self._register = register
        self._sockets: list[trio.socket.SocketType] = []
        self._chunks: AsyncIterator[bytes]
        self._is_being_read = False
        self._sending = trio.CancelScope()
        self._tidying = AsyncExitStack()
        self._tidying.push_async_callback(client.aclose)
        register.add(self)

    async def send(self, request: httpx.Request) -> None:
        """Send the request and wait for the head. Raises :class:`AttemptFailed`.

        Whatever it raises, the connection has to be closed.
        """
        request.extensions["trace"] = self._note
        try:
            with self._sending, trio.move_on_after(self._silence_timeout) as patience:
                response = await self._client.send(request, stream=True)
                self.status, self.headers = response.status_code, response.headers
                self._chunks = response.aiter_raw()
                self._tidying.push_async_callback(response.aclose)
                self._tidying.push_async_callback(_exhaust, self._chunks)
        except httpx.HTTPError as error:
            raise AttemptFailed(f"no answer came: {_describe(error)}") from error
        if self._sending.cancelled_caught:
            raise AttemptFailed("the connection was closed before an answer came")
        if patience.cancelled_caught:
            raise AttemptFailed(f"no answer came for {self._silence_timeout:g} seconds")

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its proper end.

        Raises :class:`AttemptFailed` where it breaks off or nothing comes. After that, or if
        cancelled, the connection is of no further use.
        """
        self._is_being_read = True
        try:
            with trio.move_on_after(self._silence_timeout):
                return await anext(self._chunks, b"")
        except httpx.HTTPError as error:
            raise AttemptFailed(f"the answer broke off: {_describe(error)}") from error
        finally:
            self._is_being_read = False
        raise AttemptFailed(f"nothing came for {self._silence_timeout:g} seconds")

    async def read_whole(self) -> bytes:
        """The body, or the first MiB of it. Raises as :meth:`read`."""
        body = bytearray()
        while len(body) < MAX_WHOLE_BYTES and (chunk := await self.read()):
            body += chunk
        return bytes(body)

    def close(self) -> None:
        """Close the socket, or stop connecting; who waits gets :class:`AttemptFailed`.
        Idempotent."""
        self._sending.cancel(reason="the connection was closed")
        for socket in self._sockets:
            socket.close()

    async def aclose(self) -> None:
        """Close the socket, then tidy up behind it, for which it waits for nobody. Idempotent.

        If cancelled, it is closed and tidied all the same.
        """
        self._register.discard(self)
        self.close()
        if not self._is_being_read:  # or else the reader's own failure ends what it reads from
            await self._tidying.aclose()

    async def _note(self, step: str, info: Mapping[str, Any]) -> None:
        # "Request extensions" in httpx's documentation. From here on a TLS handshake may be
        # cancelled, of which httpcore would leave the socket to the garbage collector.
        if step == "connection.connect_tcp.complete":
            self._sockets.append(info["return_value"].get_extra_info("socket"))


class _Body(httpx.AsyncByteStream):
    """The body of a request. httpx's own is a generator, which a cancelled sending would leave to
    the garbage collector."""

    def __init__(self, body: bytes) -> None:
        self._unsent = [body] if body else []

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._unsent:
            raise StopAsyncIteration
        return self._unsent.pop()


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    # Closing the outermost generator would leave those inside to the garbage collector; reading on
    # ends every one of them. There is no checkpoint before the end of what was received already:
    # one that raised between two chunks would leave them where they stand.
    try:
        while await anext(chunks, b""):
            pass
    except (httpx.HTTPError, httpx.StreamClosed):
        pass  # the socket is closed; or nothing was read, and nothing need be ended


def _describe(error: Exception) -> str:
    # What failed in a TLS handshake only the innermost of four errors tells. (By context, because
    # httpcore takes the cause away.)
    telling: BaseException | None = error
    while telling is not None and not str(telling):
        telling = telling.__context__
    return str(telling or type(error).__name__)
