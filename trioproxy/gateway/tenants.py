"""Tenants: who a request comes from, by the key that it brings."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from trioproxy.config import HASHED, Gateway
from trioproxy.wire import CREDENTIALS

PREFIX = "tp-"
"""How keys begin that are made here: so that a scanner of leaked secrets can tell them."""

DIGEST = "~"
"""How a tenant's name begins that nobody gave it: no configured name does."""


class Unauthorized(Exception):
    """No key, or one that nobody has. ``scheme`` is how HTTP is to ask for one (RFC 9110, section
    11.1): ``Basic`` makes a browser ask its person."""

    scheme = "Bearer"


class Forbidden(Exception):
    """The key is not one of an operator's."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whoever a key belongs to. ``is_admin`` says that it may see everybody's generations."""

    name: str
    is_admin: bool

    @property
    def has_key(self) -> bool:
        """Whether its credentials are a key of ours; else they are what it brings for the
        engine."""
        return not self.name.startswith(DIGEST)

    @property
    def is_operator(self) -> bool:
        """Whether it may do what operators do: an admin, or anybody where nobody needs a key."""
        return self.is_admin or not self.has_key


class Tenants:
    """All that there are. Without any everybody is welcome (``is_open``), and known by the
    credentials that they bring for the engine."""

    def __init__(self, gateway: Gateway) -> None:
        self.is_open: bool
        self._keys: list[tuple[bytes, Tenant]]
        self.configure(gateway)

    def configure(self, gateway: Gateway) -> None:
        """Be these from now on."""
        self.is_open = gateway.is_open
        self._keys = [
            (key.encode(), Tenant(entry.name, entry.admin))
            for entry in gateway.tenants
            for key in entry.keys
        ]

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Tenant:
        """Whose request this is, by its headers (names in lower case). Raises
        :class:`Unauthorized`, also for one with several keys."""
        if self.is_open:
            return Tenant(_fingerprint(headers), is_admin=False)
        keys = _keys_in(headers)
        if not keys or not all(keys):
            raise Unauthorized("an API key is needed: send it as 'Authorization: Bearer …'")
        found = self._find(keys[0])
        if found is None or any(other != keys[0] for other in keys):
            raise Unauthorized("the API key is not known")
        return found

    def _find(self, key: bytes) -> Tenant | None:
        # All are compared, each in constant time: how long it takes tells nothing of any.
        presented, found = hash_key(key).encode(), None
        for known, tenant in self._keys:
            if hmac.compare_digest(known, presented):
                found = tenant
        return found


def make_key() -> str:
    """A new key: 256 bits that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: bytes) -> str:
    """What is kept of a key. One that nobody can guess needs no salt."""
    return HASHED + hashlib.sha256(key).hexdigest()


def _keys_in(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Each key that the headers bring, once for each header."""
    keys: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                keys.append(rest.strip())
            elif scheme.lower() == b"basic":  # what a browser asks a person for
                keys.append(_password(rest.strip()))
        elif name in CREDENTIALS:
            keys.append(value.strip())
    return keys


def _password(encoded: bytes) -> bytes:
    """That of HTTP's Basic authentication (RFC 7617)."""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _fingerprint(headers: Iterable[tuple[bytes, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(headers):
        if name in CREDENTIALS:
            digest.update(b"%b\0%b\0" % (name, value))
    return DIGEST + digest.hexdigest()
