"""Where a broker is, and who one is to it: a URL.

``redis://user:password@host:6379/0``, or ``valkey://``; ``rediss://`` and ``valkeys://`` with TLS,
by the certificates of the system or those of ``?ca=<file>``, and with one's own by
``?cert=<file>&key=<file>``. ``redis://host1,host2,host3/0?sentinel=<name>`` is the primary of that
name, whom those Sentinels know; ``redis://host1,host2,host3?cluster=<lanes>`` is the Redis Cluster
that those are of, over which the keys are divided as all nodes must divide them. User, password and
options are percent-encoded.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

PORT, SENTINEL_PORT = 6379, 26379

_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_OPTIONS = {"sentinel", "cluster", "ca", "cert", "key"}

MOST_LANES = 64
"""Of each, a node has two connections."""


@dataclass(frozen=True, slots=True)
class Address:
    """A broker's. ``hosts`` are pairs of name and port: of the broker itself; if ``sentinel`` names
    a primary, of the Sentinels; if it ``is_cluster``, of some of its servers."""

    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)
    sentinel: str | None = None
    is_cluster: bool = False
    lanes: int = 1


def parse_address(url: str) -> Address:
    """The address that a URL tells. Raises :exc:`ValueError`, without the password; and
    :exc:`OSError` for a certificate that cannot be read."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"a broker's URL begins with one of {', '.join(_SCHEMES)}, and ://")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - _OPTIONS:
        raise ValueError(f"a broker's URL has no option {', '.join(sorted(unknown))}")
    has_tls = _SCHEMES[parts.scheme]
    if not has_tls and options.keys() & {"ca", "cert", "key"}:
        raise ValueError(f"{parts.scheme}:// has no TLS, and so no certificates")
    sentinel, lanes = options.get("sentinel"), options.get("cluster")
    if sentinel is not None and lanes is not None:
        raise ValueError("a broker's URL has ?sentinel=<name> or ?cluster=<lanes>, not both")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    port = PORT if sentinel is None else SENTINEL_PORT
    found = tuple(_parse_host(host, port) for host in hosts.split(","))
    if sentinel is None and lanes is None and len(found) > 1:
        raise ValueError("a broker's URL has more than one host only with ?sentinel= or ?cluster=")
    db = parts.path.strip("/")
    if db and not (db.isascii() and db.isdigit()):
        raise ValueError("the path of a broker's URL is the number of a database")
    if lanes is not None and int(db or 0):
        raise ValueError("a broker's URL names no database with ?cluster=<lanes>")
    return Address(
        found,
        unquote(username) or None,
        unquote(password) or None,
        int(db or 0),
        _ssl_context(options) if has_tls else None,
        sentinel,
        lanes is not None,
        1 if lanes is None else _parse_lanes(lanes),
    )


def _parse_lanes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_LANES):
        raise ValueError(f"the lanes of a broker's URL are a number from 1 to {MOST_LANES}")
    return int(text)


def _parse_host(host: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    try:
        port = parts.port
    except ValueError:  # which would tell a piece of a password that was not encoded
        raise ValueError("the port of a broker's URL is a number up to 65535") from None
    if not parts.hostname:
        raise ValueError("a broker's URL names a host")
    return parts.hostname, port or default_port


def _ssl_context(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ca"))
    if "cert" in options:
        context.load_cert_chain(options["cert"], options.get("key"))
    return context
