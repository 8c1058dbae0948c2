"""Where a request comes from: by the connection, or by those on the way who are believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from trioproxy.config import UNIX_PEERS
from trioproxy.web.connection import current_request
from trioproxy.web.sockets import current_websocket

FORWARDED_FOR = b"x-forwarded-for"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Whereabouts:
    """Knows the proxies in front of this one: ``trusted`` are their addresses and networks,
    separated by commas, ``unix`` for whoever comes over a Unix socket."""

    def __init__(self, trusted: str) -> None:
        entries = {entry for entry in trusted.split(",") if entry}
        self._trusts_unix = UNIX_PEERS in entries
        self._networks = [
            ipaddress.ip_network(entry, strict=False) for entry in entries - {UNIX_PEERS}
        ]

    async def note(self) -> None:  # noqa: ASYNC124 - or Quart takes a thread
        """Note where the current request comes from."""
        request = current_request()
        request.address = self.address_of(request.scope)

    async def note_websocket(self) -> None:  # noqa: ASYNC124 - likewise
        """The same for a WebSocket."""
        asking = current_websocket()
        asking.address = self.address_of(asking.scope)

    def address_of(self, scope: Mapping[str, Any]) -> str | None:
        """The address of the client of an ASGI scope; None where it came over a Unix socket and
        nobody who is believed tells more.

        Each proxy on the way has added whom it was asked by to ``X-Forwarded-For``. So it is read
        from its end, as far as they are believed: the first who is not, or what is no address any
        more, ends it.
        """
        peer = scope["client"]
        address = None if peer is None else _parse(peer[0])
        is_trusted = self._trusts_unix if peer is None else self._trusts(address)
        hops = _hops(scope)
        while is_trusted and (hop := _parse(next(hops, ""))) is not None:
            address, is_trusted = hop, self._trusts(hop)
        return None if address is None else str(address)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _hops(scope: Mapping[str, Any]) -> Iterator[str]:
    """What ``X-Forwarded-For`` lists, the last first."""
    for name, value in reversed(list(scope["headers"])):
        if name == FORWARDED_FOR:
            yield from reversed(value.decode("latin-1").split(","))


def _parse(text: str) -> Address | None:
    """An address, as it is or with a port; that of IPv4 that one of IPv6 stands for. None for what
    is none."""
    host = text.strip().partition("%")[0]  # a zone is of the machine that wrote it
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
