"""Addresses as they are written in settings: where to listen, and whom to believe."""

from __future__ import annotations

import ipaddress
import re

UNIX = "unix:"
"""How the address of a Unix socket begins; its path follows."""

UNIX_PEERS = "unix"
"""Whoever comes over a Unix socket, among the addresses that are believed."""

MAX_UNIX_PATH_BYTES = 107
"""unix(7): 108, with the NUL at the end."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> str:
    """Check `host:port` (IPv6 in brackets, port 0 to 65535) and return it. Raises `ValueError`."""
    label = r"[A-Za-z0-9_-]{1,63}"
    address = re.fullmatch(rf"(?:{label}(?:\.{label})*|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})", text)
    if address is None or int(address[1]) > 65_535:
        raise ValueError(text)
    return text


def parse_binds(text: str) -> str:
    """Check addresses to listen on, separated by commas, each `host:port` or `unix:/path`; return
    them without spaces. Raises `ValueError`, for two that are the same too."""
    addresses = [
        _parse_unix(each) if each.startswith(UNIX) else parse_address(each) for each in _split(text)
    ]
    named = [each for each in addresses if not each.endswith(":0")]
    if not addresses or len(set(named)) < len(named):
        raise ValueError(text)
    return ",".join(addresses)


def parse_proxies(text: str) -> str:
    """Check addresses and networks of proxies, separated by commas, `unix` for all that come over a
    Unix socket; return them without spaces. Raises `ValueError`."""
    for each in (entries := _split(text)):
        if each != UNIX_PEERS:
            ipaddress.ip_network(each, strict=False)
    return ",".join(entries)


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine can reach an address to listen on."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, of whatever


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _parse_unix(text: str) -> str:
    path = text.removeprefix(UNIX)
    if not re.fullmatch(r"/.*[^/]", path) or not path.isprintable():
        raise ValueError(text)
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise ValueError(text)
    return text
