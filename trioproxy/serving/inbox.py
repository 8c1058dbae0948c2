"""What a client has sent of one request, on its way from the protocol to the application."""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIReceiveEvent

DISCONNECTS = {"http.disconnect", "websocket.disconnect"}


class Inbox:
    """The ASGI messages of one request. Putting waits while the application has ``size`` of them to
    take.

    The disconnect is not a message in the queue but its end: telling it never waits, so an
    application that takes nothing cannot hold up whoever tells it, and asking again is answered
    again (ASGI, "Disconnect - receive event"). Once the application is through (:meth:`close`),
    what is put is dropped.
    """

    def __init__(self, size: int) -> None:
        self._put, self._take = trio.open_memory_channel[ASGIReceiveEvent](size)
        self._farewell: ASGIReceiveEvent = {"type": "http.disconnect"}

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Hand the message over. If cancelled, it was not."""
        if message["type"] in DISCONNECTS:
            self._farewell = message
            self._put.close()
            return
        try:
            await self._put.send(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # nobody wants the rest of the request any more

    async def take(self) -> ASGIReceiveEvent:
        """The next message. If cancelled, none was taken."""
        try:
            return await self._take.receive()
        except trio.EndOfChannel:
            return self._farewell

    def close(self) -> None:
        """The application takes nothing more: who waits to put is let go."""
        self._take.close()
        self._put.close()
