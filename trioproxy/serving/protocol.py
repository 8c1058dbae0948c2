"""hypercorn's HTTP/1.1, without the holes in which a disconnect, timer or task was lost."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import h11
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import (
    Body,
    Data,
    EndBody,
    Request,
    Response,
    StreamClosed,
)
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection

from trioproxy.serving.refusing import is_to_be_refused
from trioproxy.serving.websocket import WebSocketStream

HTTP_VERSIONS = {b"1.0", b"1.1"}
EXTENSIONS = b"sec-websocket-extensions"


class Http11(H11Protocol):
    """The HTTP/1.1 side of one connection: one request at a time, never HTTP/2, never a parked
    reader.

    What differs from hypercorn's, and why:

    * Bytes after the end of a request, while its response is under way, wait for their turn, up to
      the size of a head, and the reader reads on. hypercorn parks its reader until the response
      ends; then nobody sees the client leave. A client that has sent ahead before the head went out
      is told that the connection closes after the response. One that has the whole response may
      send its next request before the application is through with this one: that request is
      answered.
    * A request that others might read in another way, or that would crash somebody here, is refused
      (:mod:`~trioproxy.serving.refusing`).
    * A request for HTTP/2 by prior knowledge is refused, one by upgrade is answered in HTTP/1.1.
    * Whether the connection can be reused is decided, and told (``Updated``, ``Closed``), before
      the application is told that the exchange is over. The telling cancels the task that runs
      here, and what came after it would be lost: hypercorn loses its keep-alive timer so.
    """

    _discarded_bytes = False

    @property
    def is_idle(self) -> bool:
        """No request is being received or answered."""
        return self.stream is None

    @property
    def has_whole_request(self) -> bool:
        """The request that is being answered has been received to its end."""
        connection = self.connection  # a WebSocket has no request that could be whole
        return isinstance(connection, h11.Connection) and connection.their_state not in {
            h11.IDLE,
            h11.SEND_BODY,
        }

    @property
    def _awaits_head(self) -> bool:
        """What comes next is a request's head."""
        connection = self.connection
        return isinstance(connection, h11.Connection) and connection.their_state is h11.IDLE

    @property
    def end_would_pass_for_whole(self) -> bool:
        """The response is not whole, and its client could not tell: to HTTP/1.0 a body ends where
        the connection does (RFC 9112, section 6.3)."""
        connection = self.connection
        return (
            isinstance(connection, h11.Connection)
            and connection.our_state is h11.SEND_BODY
            and connection.their_http_version == b"1.0"
        )

    @property
    def has_bytes_ahead(self) -> bool:
        """The client has sent something that has not been looked into yet."""
        return bool(self.connection.trailing_data[0])

    async def handle(self, event: Event) -> None:
        """Take what the client sent. Waits while the application has not taken what came before."""
        if isinstance(event, RawData) and (self.is_idle or self.has_whole_request):
            await self._handle_next(event.data)
        else:
            await super().handle(event)

    async def _handle_next(self, data: bytes) -> None:
        ahead = self.connection.trailing_data[0]
        if not ahead:
            data = data.lstrip(b"\r\n")  # empty lines before a request (RFC 9112, section 2.2)
        if not data:
            return
        if self.is_idle:
            await super().handle(RawData(data))
        elif len(ahead) + len(data) <= self.config.h11_max_incomplete_size:
            self.connection.receive_data(data)
        else:
            self._discarded_bytes = True

    async def take_up_next(self) -> None:
        """Take the request that the client has sent ahead, now that its turn has come."""
        await self._handle_events()

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of the response. The head says so where the connection will not be reused."""
        if (
            isinstance(event, Response)
            and event.status_code >= 200
            and (self.has_bytes_ahead or not self._may_be_reused)
        ):
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    @property
    def _may_be_reused(self) -> bool:
        return (
            self.has_whole_request
            and not self._discarded_bytes
            and not self.context.terminated.is_set()
        )

    async def _handle_events(self) -> None:
        while not self.has_whole_request:  # what lies behind it waits for its turn
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            came = self.connection.trailing_data[0] if self._awaits_head else b""
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            if isinstance(event, h11.Request):
                if event.http_version not in HTTP_VERSIONS:
                    await self._refuse(505)
                    return
                head = came[: len(came) - len(self.connection.trailing_data[0])]
                if is_to_be_refused(event, head):
                    await self._refuse(400)
                    return
                # h11 holds the bound against a head that has not come to its end.
                if _size_of_head(event) > self.config.h11_max_incomplete_size:
                    await self._refuse(431)
                    return
                await self.send(Updated(idle=False))
                await self._create_stream(event)
            elif self.stream is None:  # its request was refused
                return
            elif isinstance(event, h11.Data):
                await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self.stream.handle(EndBody(stream_id=STREAM_ID))
            elif isinstance(event, Data):  # of a WebSocket
                await self.stream.handle(event)
            else:  # more bytes are needed
                return

    async def _create_stream(self, request: h11.Request) -> None:
        if not _asks_for_websocket(request):
            await super()._create_stream(request)
            return
        self.connection = H11WSConnection(cast(h11.Connection, self.connection))
        self.stream = WebSocketStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                # Without its extensions, of which there is one: to compress, which a token is not
                # worth and which would take 300 kB of each connection.
                headers=[pair for pair in request.headers if pair[0] != EXTENSIONS],
                http_version=request.http_version.decode(),
                method="GET",
                raw_path=request.target,
                state=self.connection_state,
            )
        )

    async def _refuse(self, status: int) -> None:
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status)
        await self.send(Closed())
        await self._close_stream()

    async def _maybe_recycle(self) -> None:
        stream, self.stream = self.stream, None
        if self._may_be_reused and self.connection.our_state is h11.DONE:
            self.connection.start_next_cycle()
            await self.send(Updated(idle=True))
        else:
            await self.send(Closed())
        if stream is not None:
            await stream.handle(StreamClosed(stream_id=STREAM_ID))


def _size_of_head(request: h11.Request) -> int:
    """What it takes on the wire, in bytes, written as shortly as can be (RFC 9112, section 2.1)."""
    line = len(request.method) + len(request.target) + len("  HTTP/1.1\r\n\r\n")
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in request.headers)


def _asks_for_websocket(request: h11.Request) -> bool:
    """Whether it is a handshake (RFC 6455, section 4.2.1)."""
    tokens: dict[bytes, set[bytes]] = {b"upgrade": set(), b"connection": set()}
    for name, value in request.headers:
        if name in tokens:
            tokens[name].update(token.strip().lower() for token in value.split(b","))
    return (
        request.method == b"GET"
        and b"websocket" in tokens[b"upgrade"]
        and b"upgrade" in tokens[b"connection"]
    )
