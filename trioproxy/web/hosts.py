"""The names by which the proxy may be called, where whoever is on its machine may use it.

A page of anybody's can have its own name lead to 127.0.0.1 (DNS rebinding). To the browser the
proxy is that page's own server then, and the page reads and asks whatever it likes. What tells is
the name in ``Host`` (RFC 9110, section 7.2): no such page can have it be an address, or localhost.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from quart import has_request_context
from werkzeug.exceptions import Forbidden

from trioproxy.config import Settings
from trioproxy.web.connection import current_request
from trioproxy.web.sockets import current_websocket


class Hosts:
    """Any name where a key is asked for, or ``insecure_open`` lets in others; else none but the
    machine's own."""

    def __init__(self, settings: Settings) -> None:
        self._any_name = settings.insecure_open or not settings.gateway.is_open

    async def check(self) -> None:  # noqa: ASYNC124 - or Quart takes a thread
        """Raise :class:`~werkzeug.exceptions.Forbidden` where the current request, or WebSocket, is
        for a name that is not ours."""
        if self._any_name:
            return
        asking = current_request() if has_request_context() else current_websocket()
        if asking.scope["client"] is None:
            return  # by a Unix socket, which no page can open
        host = asking.headers.get("Host", "")
        if not is_own_name(host):
            raise Forbidden(
                f"without tenants this proxy answers to no name but localhost, not to {host!r}: "
                "see --insecure-open"
            )


def is_own_name(host: str) -> bool:
    """Whether no name server can have a page's name be this (``host`` or ``host:port``; "": the
    client names none, as no browser does)."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if not name or name == "localhost" or name.endswith(".localhost"):
        return "@" not in host
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
