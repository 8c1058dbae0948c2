"""The application behind a server, which another can take the place of."""

from __future__ import annotations

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from trioproxy.web import ProxyApp


class Front:
    """Each request and each WebSocket is answered by the application that ``app`` is when it
    begins, to its end."""

    def __init__(self, app: ProxyApp) -> None:
        self.app = app

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        await self.app(scope, receive, send)
