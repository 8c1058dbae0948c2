"""Who asks, and what of its request travels on to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trioproxy.gateway import Tenant
from trioproxy.upstream import HeaderPairs, UpstreamRequest

RESUME_PARAMETER = "last_event_id"
_RESUME_FIELD = f"{RESUME_PARAMETER}=".encode()
_HANDSHAKE = b"sec-websocket-"


@dataclass(frozen=True, slots=True)
class Caller:
    """The one behind a request, or behind a WebSocket.

    Attributes:
        tenant: whose it is. Nobody else sees, joins or stops what is theirs, but an operator.
        headers: as they came, names in lower case.
        query: what goes upstream with a call: the query as it came, but for what spoke to the
            proxy.
        is_admin: who sees everybody's.
        is_operator: who may ask what concerns everybody; without tenants, anybody.
        has_key: whose credentials are a key of ours, which no engine gets.
        address: where they are, as far as that can be believed; None where it is not known.
    """

    tenant: str
    headers: HeaderPairs
    query: bytes
    is_admin: bool = False
    is_operator: bool = False
    has_key: bool = False
    address: str | None = None

    def may_see(self, tenant: str) -> bool:
        """Whether what is this tenant's exists, to this one."""
        return self.is_admin or tenant == self.tenant

    def request(
        self, method: str, target: bytes, body: bytes, trace_context: Mapping[str, str]
    ) -> UpstreamRequest:
        """What is asked of an upstream in this one's name."""
        return UpstreamRequest(
            method, target, self.headers, body, trace_context, withholds_credentials=self.has_key
        )

    def header(self, name: bytes) -> bytes:
        """The values of the header of this name (in lower case), b"" without any."""
        return b", ".join(value for key, value in self.headers if key == name)


NOBODY = Caller("", [], b"")
"""Whoever has not been let in."""


def caller_of_request(
    tenant: Tenant, headers: HeaderPairs, query: bytes, address: str | None
) -> Caller:
    """The caller of an HTTP request."""
    fields = [field for field in query.split(b"&") if not field.startswith(_RESUME_FIELD)]
    query = b"&".join(fields)
    return _caller(tenant, headers, query, address)


def caller_of_websocket(tenant: Tenant, headers: HeaderPairs, address: str | None) -> Caller:
    """The caller of a WebSocket, by the headers of its handshake: it makes calls as if it had sent
    JSON."""
    kept = [pair for pair in headers if not pair[0].startswith(_HANDSHAKE)]
    headers = [*kept, (b"content-type", b"application/json")]
    return _caller(tenant, headers, b"", address)


def _caller(tenant: Tenant, headers: HeaderPairs, query: bytes, address: str | None) -> Caller:
    return Caller(
        tenant.name,
        headers,
        query,
        is_admin=tenant.is_admin,
        is_operator=tenant.is_operator,
        has_key=tenant.has_key,
        address=address,
    )
