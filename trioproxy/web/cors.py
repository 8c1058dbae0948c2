"""Pages of other origins: what a browser may let them send and read.

Source: the Fetch standard, "CORS protocol" (https://fetch.spec.whatwg.org/#http-cors-protocol).

It is decided here for every route, the forwarded ones too: what the engine says of it was meant for
the engine's own address.
"""

from __future__ import annotations

from collections.abc import Collection

from quart_trio.wrappers import TrioResponse as Response

from trioproxy.web.connection import ProxyRequest, current_request

MAX_AGE_SECONDS = 7200
"""What the browser with the shortest memory keeps of a preflight's answer."""

_PREFIX = "access-control-"


class Cors:
    """What pages of the ``allowed`` origins may do: everything that a client without a browser may.

    Cookies are no credentials here, so none are allowed. ``*`` stands for every origin.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = allowed

    async def answer_preflight(self) -> Response | None:  # noqa: ASYNC124 - or Quart takes a thread
        """The answer to the browser's question before a request; None for every other request."""
        request = current_request()
        if not _is_preflight(request):
            return None
        method = request.headers["Access-Control-Request-Method"]
        response = Response(b"", 204)
        del response.headers["Content-Type"], response.headers["Content-Length"]
        headers = request.headers.get("Access-Control-Request-Headers")
        if headers is not None:
            response.headers["Access-Control-Allow-Headers"] = headers
        response.headers["Access-Control-Allow-Methods"] = method
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
        return response

    async def mark(self, response: Response) -> Response:  # noqa: ASYNC124 - likewise
        """Say in a response which origin may read it, and that it may read the headers too."""
        request = current_request()
        if not _is_preflight(request):  # what stands there is the engine's
            for name in [name for name, _ in response.headers if name.lower().startswith(_PREFIX)]:
                response.headers.pop(name, None)
        origin = request.headers.get("Origin")
        response.headers.add("Vary", "Origin")
        if origin is not None and ("*" in self._allowed or origin in self._allowed):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "*"
        return response


def _is_preflight(request: ProxyRequest) -> bool:
    headers = request.headers
    return (
        request.method == "OPTIONS"
        and "Origin" in headers
        and "Access-Control-Request-Method" in headers
    )
