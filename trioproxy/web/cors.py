"""Pages of other origins: what a browser may let them send and read.

Source: the Fetch standard, "CORS protocol" (https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from quart import Request, Websocket
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import Forbidden

from trioproxy.web.connection import ProxyRequest, current_request

MAX_AGE_SECONDS = 7200
"""What the browser with the shortest memory keeps of a preflight's answer."""

HARMLESS = ("GET", "HEAD", "OPTIONS")
"""They change nothing, and without leave a page cannot read what they are answered."""


class Cors:
    """What pages may do: those of the proxy's own origin and of the ``allowed`` ones all that a
    client without a browser may; others nothing.

    A browser sends some requests of any page without asking first, and opens any WebSocket: so who
    may not is not only kept from reading, but refused. Cookies are no credentials here, so none are
    allowed, nor is a password that the browser remembers. ``*`` stands for every origin.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = allowed

    async def answer_preflight(self) -> Response | None:  # noqa: ASYNC124 - or Quart takes a thread
        """The answer to the browser's question before a request; None for every other request.

        Raises :class:`~werkzeug.exceptions.Forbidden` for what a page may not ask.
        """
        request = current_request()
        if not _is_preflight(request):
            if request.method not in HARMLESS:
                self.check_origin(request)
            return None
        response = Response(b"", 204)
        del response.headers["Content-Type"], response.headers["Content-Length"]
        headers = request.headers.get("Access-Control-Request-Headers")
        if headers is not None:
            response.headers["Access-Control-Allow-Headers"] = headers
        method = request.headers["Access-Control-Request-Method"]
        response.headers["Access-Control-Allow-Methods"] = method
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
        return response

    async def mark(self, response: Response) -> Response:  # noqa: ASYNC124 - likewise
        """Say in a response which origin may read it, and that it may read the headers too."""
        origin = current_request().headers.get("Origin")
        response.headers.add("Vary", "Origin")
        if origin is not None and self._allows(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "*"
        return response

    def check_origin(self, asking: Request | Websocket) -> None:
        """Raise :class:`~werkzeug.exceptions.Forbidden` for a page of an origin that is not allowed
        (for WebSockets: RFC 6455, section 10.2)."""
        origin = asking.headers.get("Origin")
        if not (self.is_own_page(asking) or (origin is not None and self._allows(origin))):
            raise Forbidden(f"pages of {origin} may not do this: see --cors-origins")

    def is_own_page(self, asking: Request | Websocket) -> bool:
        """Whether a page of the proxy's own asks, or what is no page at all."""
        origin = asking.headers.get("Origin")
        return origin is None or _host_of(origin) == asking.headers.get("Host")

    def _allows(self, origin: str) -> bool:
        return "*" in self._allowed or origin in self._allowed


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _is_preflight(request: ProxyRequest) -> bool:
    headers = request.headers
    return (
        request.method == "OPTIONS"
        and "Origin" in headers
        and "Access-Control-Request-Method" in headers
    )
