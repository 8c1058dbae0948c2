"""Where a broker is, and who one is to it: a URL.

``redis://user:password@host:6379/0``, or ``valkey://``; ``rediss://`` and ``valkeys://`` with TLS,
by the certificates of the system or those of ``?ca=<file>``, and with one's own by
``?cert=<file>&key=<file>``; and ``redis://host1,host2,host3/0?sentinel=<name>`` for the primary of
that name, whom those Sentinels know. User, password and options are percent-encoded.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

PORT, SENTINEL_PORT = 6379, 26379

_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_OPTIONS = {"sentinel", "ca", "cert", "key"}


@dataclass(frozen=True, slots=True)
class Address:
    """A broker's. ``hosts`` are pairs of name and port: of the broker itself, or, if ``sentinel``
    names a primary, of the Sentinels."""

    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)
    sentinel: str | None = None


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
    sentinel = options.get("sentinel")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    port = PORT if sentinel is None else SENTINEL_PORT
    found = tuple(_parse_host(host, port) for host in hosts.split(","))
    if sentinel is None and len(found) > 1:
        raise ValueError("a broker's URL has more than one host only with ?sentinel=<name>")
    db = parts.path.strip("/")
    if db and not (db.isascii() and db.isdigit()):
        raise ValueError("the path of a broker's URL is the number of a database")
    return Address(
        found,
        unquote(username) or None,
        unquote(password) or None,
        int(db or 0),
        _ssl_context(options) if has_tls else None,
        sentinel,
    )


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
