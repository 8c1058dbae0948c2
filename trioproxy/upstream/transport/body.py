"""One exchange over one connection: a request that is sent, an answer that is read."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import trio

from trioproxy.upstream.transport.connection import Connection
from trioproxy.upstream.transport.framing import AnswerParser
from trioproxy.upstream.transport.pool import Lease

SENT_AT_ONCE = 64 * 1024
"""A request up to this size fits in what the kernels on both sides hold: it is sent before the
answer is looked for. During a larger one the answer may come, and mean that it is not wanted."""


class ResponseBody(httpx.AsyncByteStream):
    """The body of an answer, as an iterator: what each read brought of it, in one piece. It has the
    connection until it is read to its end or closed, whichever is first.

    ``parser`` has the answer's head, and ``connected_at`` is when the exchange began, in trio's
    time.
    """

    def __init__(
        self,
        parser: AnswerParser,
        connection: Connection,
        lease: Lease,
        on_followable: Callable[[Lease], object],
    ) -> None:
        self.parser = parser
        self.connected_at = trio.current_time()
        self._connection = connection
        self._lease = lease
        self._on_followable = on_followable
        self._received = b""
        self._was_sent = False
        self._write_error: httpx.WriteError | None = None

    async def begin(self, message: bytes) -> None:
        """Send the request, and read until the head is there.

        Raises :exc:`httpx.WriteError`, :exc:`httpx.ReadError`, :exc:`httpx.RemoteProtocolError`. If
        cancelled, or if it fails, the lease is to be closed.
        """
        try:
            if len(message) <= SENT_AT_ONCE:
                await self._send(message)
                await self._read_head()
            else:
                await self._send_and_read_head(message)
        except BaseException:
            self.parser.discard()
            raise
        self._settle()

    def __aiter__(self) -> ResponseBody:
        return self

    async def __anext__(self) -> bytes:
        """The next piece: what came with the head, then what each read brings.

        Raises :exc:`httpx.ReadError`, :exc:`httpx.RemoteProtocolError`. If cancelled, or if it
        fails, the connection is closed.
        """
        piece, self._received = self._received, b""
        parser = self.parser
        try:
            while not piece and not parser.is_complete:
                if parser.flaw is not None:  # what came before it was handed out first
                    raise httpx.RemoteProtocolError(parser.flaw)
                piece = parser.feed(await self._connection.receive())
        except BaseException:
            self.close()
            raise
        if parser.is_complete:
            self._settle()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close it; see :meth:`close`. No checkpoint."""
        self.close()

    def close(self) -> None:
        """Close the connection, if this has it still. Idempotent."""
        self.parser.discard()
        self._lease.close()

    async def _send_and_read_head(self, message: bytes) -> None:
        failure: httpx.HTTPError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, message)
            try:
                await self._read_head()
            except httpx.HTTPError as error:
                failure = error
            if failure or self.parser.status >= 400:
                # It is not wanted (RFC 9112, section 9.5). Over TLS, half a record may be out now,
                # and the rest of the answer is out of reach.
                nursery.cancel_scope.cancel(reason="the answer came before the request was sent")
        if failure is not None:
            raise failure

    async def _send(self, message: bytes) -> None:
        # A server that does not want a request may answer and close before it was sent. So that
        # sending fails is no failure of the call, as long as there is an answer.
        try:
            await self._connection.send(message)
        except httpx.WriteError as error:
            self._write_error = error
        else:
            self._was_sent = True

    async def _read_head(self) -> None:
        try:
            while not self.parser.has_head:
                if self.parser.flaw is not None:
                    raise httpx.RemoteProtocolError(self.parser.flaw)
                self._received = self.parser.feed(await self._connection.receive())
        except httpx.ReadError:
            if self._write_error is None:
                raise
            raise self._write_error from None  # of the two, it was the first

    def _settle(self) -> None:
        """Give the connection up as soon as the answer is there."""
        if not self.parser.is_complete or self._lease.is_over:
            return
        if self.parser.may_be_followed and self._was_sent:
            self.parser.discard()
            self._on_followable(self._lease)
        else:
            self.close()
