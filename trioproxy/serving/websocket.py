"""hypercorn's WebSocket, with ends that the client is told and a limit to its silence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.protocol.events import Body, Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, WSStream
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, WebsocketAcceptEvent
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

SILENT = 4408
"""The close code of a client that sent nothing for too long; as HTTP's 408, in the range that RFC
6455 leaves to applications."""


class WebSocketStream(WSStream):
    """The WebSocket of one connection (RFC 6455).

    What differs from hypercorn's, and why:

    * A handshake that is none ends the connection. hypercorn refuses it and keeps the connection,
      for as long as the client likes.
    * Bytes that come before the handshake is answered end the connection. hypercorn refuses them
      and leaves the application to wait for more.
    * A message over the limit, and bytes that break the protocol, are answered with their close
      code, and end the connection then. hypercorn gathers the rest of a message that is too large,
      and ends without a word where the protocol is broken.
    * A client that has neither sent nor taken anything for ``websocket_ping_interval`` seconds is
      pinged, which every client answers by itself (section 5.5.3); one that is silent for as long
      again is told 4408, and left. hypercorn pings and does not look for the answer.
    * The application is told the code with which the client has closed.
    """

    app_put: Callable[[ASGIReceiveEvent], Awaitable[None]] | None
    _heard_at = 0.0
    _told_code = CloseReason.ABNORMAL_CLOSURE.value

    async def handle(self, event: Event) -> None:
        if isinstance(event, Data):
            self._heard_at = trio.current_time()
        if isinstance(event, StreamClosed):
            if not self.closed and self.app_put is not None:
                self.closed = True
                await self.app_put({"type": "websocket.disconnect", "code": self._told_code})
        elif isinstance(event, Data | Body) and not self.handshake.accepted:
            await self._send_error_response(400)  # section 4.1: it must wait for the answer
            await self.send(StreamClosed(stream_id=self.stream_id))
        else:
            await super().handle(event)
            if self.closed and self.app_put is None:  # it was refused
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: ASGISendEvent | None) -> None:
        await super().app_send(message)
        if message is not None:  # and it was taken: for those who take nothing there is a limit
            self._heard_at = trio.current_time()

    async def write_frames(self, frames: bytes) -> None:
        """Write whole frames (RFC 6455, section 5.2) of the application's own; nothing where the
        WebSocket is closing. As :meth:`app_send` otherwise."""
        if self.connection.state is ConnectionState.OPEN:
            await self.send(Data(stream_id=self.stream_id, data=frames))
            self._heard_at = trio.current_time()

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        self._heard_at = trio.current_time()
        await super()._accept(message)

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                if not await self._take(cast("Message[Any]", event)):
                    return
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._take_leave(event)
                return

    async def _take(self, message: Message[Any]) -> bool:
        """Take a part of a message; False if that has ended the connection."""
        try:
            self.buffer.extend(message)  # pyright: ignore[reportUnknownMemberType]
        except FrameTooLargeError:
            self.buffer.clear()
            await self._break_off(CloseReason.MESSAGE_TOO_BIG.value)
            return False
        if message.message_finished:
            assert self.app_put is not None
            await self.app_put(
                cast(ASGIReceiveEvent, self.buffer.to_message())  # pyright: ignore[reportUnknownMemberType]
            )
            self.buffer.clear()
        return True

    async def _take_leave(self, event: CloseConnection) -> None:
        if self.connection.state is ConnectionState.OPEN:  # not the client says so: it is broken
            await self._break_off(event.code)
            return
        self._told_code = event.code
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            await self._send_wsproto_event(event.response())
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _break_off(self, code: int) -> None:
        self._told_code = code
        await self._send_wsproto_event(CloseConnection(code=code))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_pings(self) -> None:
        interval = self.config.websocket_ping_interval
        assert interval is not None
        while not self.closed:
            silence = trio.current_time() - self._heard_at
            if silence >= 2 * interval:
                await self._break_off(SILENT)
                return
            if silence >= interval:
                await self._send_wsproto_event(Ping())
                await trio.sleep_until(self._heard_at + 2 * interval)
            else:
                await trio.sleep_until(self._heard_at + interval)
