"""Who asks, and what of its request travels on to the engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from trioproxy.upstream import CREDENTIALS, HeaderPairs

RESUME_PARAMETER = "last_event_id"
_RESUME_FIELD = f"{RESUME_PARAMETER}=".encode()
_HANDSHAKE = b"sec-websocket-"


@dataclass(frozen=True, slots=True)
class Caller:
    """The one behind a request, or behind a WebSocket.

    Attributes:
        tenant: whoever holds the same credentials. Nobody else sees, joins or stops what is theirs.
        headers: as they came, names in lower case.
        query: what goes upstream with a call: the query as it came, but for what spoke to the
            proxy.
    """

    tenant: str
    headers: HeaderPairs
    query: bytes

    def header(self, name: bytes) -> bytes:
        """The values of the header of this name (in lower case), b"" without any."""
        return b", ".join(value for key, value in self.headers if key == name)


def caller_of_request(headers: HeaderPairs, query: bytes) -> Caller:
    """The caller of an HTTP request."""
    fields = [field for field in query.split(b"&") if not field.startswith(_RESUME_FIELD)]
    return Caller(_tenant_of(headers), headers, b"&".join(fields))


def caller_of_websocket(headers: HeaderPairs) -> Caller:
    """The caller of a WebSocket, by the headers of its handshake: it makes calls as if it had sent
    JSON."""
    kept = [pair for pair in headers if not pair[0].startswith(_HANDSHAKE)]
    return Caller(_tenant_of(headers), [*kept, (b"content-type", b"application/json")], b"")


def _tenant_of(headers: HeaderPairs) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(headers):
        if name in CREDENTIALS:
            digest.update(b"%b\0%b\0" % (name, value))
    return digest.hexdigest()
