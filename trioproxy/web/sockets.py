"""The WebSocket routes: whom they let in, and what for."""

from __future__ import annotations

from typing import cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import websocket
from quart_trio.asgi import TrioASGIWebsocketConnection
from quart_trio.wrappers import TrioWebsocket

from trioproxy.web.caller import NOBODY, Caller
from trioproxy.web.cors import Cors
from trioproxy.web.holdings import Holdings
from trioproxy.web.refusals import Refusals
from trioproxy.web.session import Session
from trioproxy.wire import BadRequest

SUBPROTOCOL = "trioproxy.v1"
"""The one subprotocol. A client that offers none gets it too."""


class ProxyWebsocket(TrioWebsocket):
    """A WebSocket that knows who is behind it, and where, as :class:`ProxyRequest` does."""

    address: str | None = None
    caller: Caller = NOBODY

    @property
    def target(self) -> bytes:
        """The path as it came."""
        return self.scope["raw_path"]


def current_websocket() -> ProxyWebsocket:
    """The WebSocket that the current task serves."""
    return cast(ProxyWebsocket, websocket)


class SocketConnection(TrioASGIWebsocketConnection):
    """Quart's view of one WebSocket, whose channel is closed with it."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        with self.send_channel, self.receive_channel:
            await super().__call__(receive, send)


class Sockets:
    """``/v1/ws`` and ``/v1/generations/{id}/ws``."""

    def __init__(self, holdings: Holdings, cors: Cors, refusals: Refusals) -> None:
        self._cors = cors
        self._refusals = refusals
        self._holdings = holdings

    async def many(self) -> None:
        """Several generations over one WebSocket, as the client asks for them."""
        await (await self._accept()).run()

    async def one(self, generation_id: str) -> None:
        """One generation: ``?after=`` the seq last read, or ``?mode=live``."""
        arguments = websocket.args
        after, mode = arguments.get("after"), arguments.get("mode", "replay")
        if after is not None and not (after.isascii() and after.isdecimal() and len(after) < 16):
            raise BadRequest("'after' must be the seq of an event", "after")
        if mode not in ("replay", "live"):
            raise BadRequest(f"the mode of a reader must be replay or live, not {mode!r}", "mode")
        session = await self._accept()
        await session.run_for(generation_id, after=None if after is None else int(after), mode=mode)

    async def _accept(self) -> Session:
        asking = current_websocket()
        self._cors.check_origin(asking)
        offered = asking.requested_subprotocols
        chosen = SUBPROTOCOL if SUBPROTOCOL in offered else None
        await asking.accept(subprotocol=chosen)  # pyright: ignore[reportUnknownMemberType]
        return Session(asking, asking.caller, self._holdings, self._refusals)
