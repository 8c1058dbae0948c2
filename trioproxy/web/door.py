"""The door: whom requests and WebSockets are let in for."""

from __future__ import annotations

from collections.abc import Iterator

from quart import Request, Websocket

from trioproxy.gateway import Forbidden, Tenants, Unauthorized
from trioproxy.upstream import HeaderPairs
from trioproxy.web.caller import caller_of_request, caller_of_websocket
from trioproxy.web.connection import current_request
from trioproxy.web.cors import Cors
from trioproxy.web.sockets import ProxyWebsocket, current_websocket

FOR_EVERYBODY = frozenset({"health", "ready", "openapi"})
"""Routes by whose answers nobody learns anything about anybody."""

FOR_OPERATORS = frozenset({"metrics", "census", "page", "page_file"})
"""Routes that tell of everybody, and the page from which they are looked at."""

KEY_PROTOCOL = "trioproxy.key."
"""A browser cannot send headers with a WebSocket: it offers a subprotocol that is this and its
key."""


class Door:
    """Knows who asks, before anything is done for them. Where there are tenants, nothing is done
    for others."""

    def __init__(self, tenants: Tenants, cors: Cors) -> None:
        self._tenants = tenants
        self._cors = cors

    async def admit(self) -> None:  # noqa: ASYNC124 - or Quart takes a thread
        """See who sends the current request.

        Raises :class:`~trioproxy.gateway.Unauthorized` and :class:`~trioproxy.gateway.Forbidden`.
        """
        request = current_request()
        if request.endpoint in FOR_EVERYBODY:
            return
        headers = self._without_what_a_browser_adds(request, request.header_pairs)
        try:
            tenant = self._tenants.identify(headers)
        except Unauthorized as error:
            error.scheme = "Basic" if request.endpoint in FOR_OPERATORS else "Bearer"
            raise
        query = request.scope["query_string"]
        request.caller = caller_of_request(tenant, headers, query, request.address)
        if request.endpoint in FOR_OPERATORS and not tenant.is_operator:
            raise Forbidden("this is for operators: the key must be that of an admin")

    async def admit_websocket(self) -> None:  # noqa: ASYNC124 - likewise
        """The same for a WebSocket."""
        asking = current_websocket()
        headers = self._without_what_a_browser_adds(asking, list(asking.scope["headers"]))
        if offered := list(_offered_credentials(asking)):
            # The browser may have sent the password of the page too.
            headers = [pair for pair in headers if pair[0] != b"authorization"] + offered
        tenant = self._tenants.identify(headers)
        asking.caller = caller_of_websocket(tenant, headers, asking.address)

    def _without_what_a_browser_adds(
        self, asking: Request | Websocket, headers: HeaderPairs
    ) -> HeaderPairs:
        """The headers without the password of a person, unless it is for a page of our own: a
        browser sends it by itself, whoever's page makes it."""
        if self._cors.is_own_page(asking):
            return headers
        return [pair for pair in headers if not _is_password(pair)]


def _is_password(pair: tuple[bytes, bytes]) -> bool:
    return pair[0] == b"authorization" and pair[1][:6].lower() == b"basic "


def _offered_credentials(asking: ProxyWebsocket) -> Iterator[tuple[bytes, bytes]]:
    for protocol in asking.requested_subprotocols:
        if protocol.startswith(KEY_PROTOCOL):
            yield b"authorization", b"Bearer " + protocol.removeprefix(KEY_PROTOCOL).encode()
