"""The transport itself: who calls whom, over a connection that is new or was kept."""

from __future__ import annotations

import math
import ssl
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

import httpx
import trio

from trioproxy.upstream.transport.body import ResponseBody
from trioproxy.upstream.transport.connection import Connection, Origin, connect
from trioproxy.upstream.transport.framing import AnswerParser, request_bytes
from trioproxy.upstream.transport.pool import IDLE_SECONDS, Lease, Pool

RETRY_SECONDS = 1.0
"""See :meth:`TrioTransport.handle_async_request`."""


class TrioTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 on trio streams. One that was closed is as good as new.

    Connections are made anew for each call, except within the block of :meth:`keep_alive`.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        ssl_context.set_alpn_protocols(["http/1.1"])
        self._ssl_context = ssl_context
        self._pools = defaultdict[Origin, Pool](partial(Pool, idle_seconds))
        self._sessions: dict[Origin, ssl.SSLSession] = {}
        self._keeps = idle_seconds > 0
        self._keeping = 0
        self._something_kept = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def keep_alive(self) -> AsyncGenerator[None]:
        """For the length of the block, keep a connection whose answer was read to its end for the
        calls of the next ``idle_seconds``. When the block ends, however it ends, those that are
        kept are closed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_expired)
            self._keeping += 1
            try:
                yield
            finally:
                self._keeping -= 1
                self._close_idle(until=math.inf)
            nursery.cancel_scope.cancel(reason="connections are no longer kept")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and wait for the head of its answer; ``response.stream``, a
        :class:`ResponseBody`, is the body.

        Of the timeouts in ``request.extensions`` that to connect is honoured. All others are the
        caller's, who has cancel scopes. A request body is sent in one piece, read beforehand.

        A connection that was kept may be closed by the server at the very moment at which it is
        used. If it is, without a byte of an answer and within a second (:data:`RETRY_SECONDS`) of
        the call, the request is sent once more, on a new one. A POST may only be repeated where it
        was not begun (RFC 9110, section 9.2.2), and this is as near as one can tell: a server that
        ends an idle connection does it then, one that has taken the request has an answer to give,
        and if it was that very request that brought it down, no more than a second's work is done
        twice, once.

        Raises :exc:`httpx.ConnectError`, :exc:`httpx.ConnectTimeout` (nothing was sent),
        :exc:`httpx.WriteError`, :exc:`httpx.ReadError` (the connection broke),
        :exc:`httpx.RemoteProtocolError` (the answer is no HTTP, or not whole),
        :exc:`httpx.LocalProtocolError` (the request is none). If cancelled, the connection is
        closed before anything is awaited, and its place is free.
        """
        message = await _message(request)
        origin = Origin.of(request.url)
        lease = Lease(self._pools[origin])
        try:
            body = await self._exchange(origin, request, message, lease)
        except BaseException:
            lease.close()
            raise
        return httpx.Response(
            body.parser.status,
            headers=body.parser.headers,
            stream=body,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": body.parser.reason},
        )

    async def aclose(self) -> None:
        """Close what is kept. What is in use is its user's."""
        self._close_idle(until=math.inf)

    async def _exchange(
        self, origin: Origin, request: httpx.Request, message: bytes, lease: Lease
    ) -> ResponseBody:
        give_up_at = trio.current_time() + RETRY_SECONDS
        kept = await lease.reuse()
        if kept is not None:
            body = self._body(request, kept, lease)
            try:
                await body.begin(message)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                if body.parser.has_begun or trio.current_time() > give_up_at:
                    raise
                kept.close()
            else:
                return body
        timeouts = request.extensions.get("timeout", {})
        fresh = await connect(
            origin,
            self._ssl_context,
            timeouts.get("connect"),
            session=self._sessions.get(origin),
        )
        lease.hold(fresh)
        body = self._body(request, fresh, lease)
        await body.begin(message)
        if fresh.session is not None:
            self._sessions[origin] = fresh.session
        return body

    def _body(self, request: httpx.Request, connection: Connection, lease: Lease) -> ResponseBody:
        return ResponseBody(AnswerParser(request.method), connection, lease, self._release)

    def _release(self, lease: Lease) -> None:
        """Take back a connection on which another exchange can follow."""
        if self._keeping and self._keeps:
            lease.keep()
            self._something_kept.unpark_all()
        else:
            lease.close()

    # -- the end of what is kept -------------------------------------------------------------------

    async def _close_expired(self) -> NoReturn:
        while True:
            next_expiry = min((pool.next_expiry for pool in self._pools.values()), default=math.inf)
            if next_expiry < math.inf:
                await trio.sleep_until(next_expiry)  # what is kept meanwhile expires later
                self._close_idle(until=trio.current_time())
            else:
                await self._something_kept.park()

    def _close_idle(self, *, until: float) -> None:
        for pool in self._pools.values():
            pool.close_idle(until=until)


async def _message(request: httpx.Request) -> bytes:
    """The whole of it, as it goes on the wire."""
    body = await request.aread()
    headers = request.headers.raw
    if request.headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return request_bytes(request.method, request.url.raw_path, headers) + body
