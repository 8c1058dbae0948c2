"""The nouns of a call: what is asked of the upstream, and the head of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

HeaderPairs = list[tuple[bytes, bytes]]
"""Headers in order, names in lower case."""


CALL_HEADERS = frozenset({b"x-request-id", b"request-id"})
CALL_PREFIXES = (b"x-ratelimit-", b"anthropic-", b"openai-", b"x-litellm-")


def tells_of_call(name: bytes) -> bool:
    """Whether engines and gateways tell of the call in this header, rather than of its answer: the
    id by which it is known there, what is left of the limits."""
    return name in CALL_HEADERS or name.startswith(CALL_PREFIXES)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to make. ``target`` is path and query as they go on the wire, without the
    upstream's own prefix; ``headers`` are the client's, of which some travel on;
    ``trace_context`` goes with them, as it is when the call is made: whoever traces it may change
    that until then. ``withholds_credentials`` says that the client's credentials are not for any
    upstream."""

    method: str
    target: bytes
    headers: HeaderPairs
    body: bytes
    trace_context: Mapping[str, str] = field(default_factory=dict[str, str])
    withholds_credentials: bool = False

    @property
    def all_headers(self) -> HeaderPairs:
        context = self.trace_context.items()
        return [
            *self.headers,
            *((name.encode(), value.encode("latin-1")) for name, value in context),
        ]


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an upstream's answer. Header names are in lower case; ``connected_at`` is when
    the call had a connection, in trio's time (None: not known); ``upstream`` is whose answer it
    is."""

    status: int
    headers: HeaderPairs
    connected_at: float | None = field(default=None, compare=False)
    upstream: str = field(default="", compare=False)

    def without_call(self) -> Head:
        """The same for who had no part in the call: of what answers it, not of how it went."""
        headers = [pair for pair in self.headers if not tells_of_call(pair[0])]
        return replace(self, headers=headers, connected_at=None)

    @property
    def media_type(self) -> str:
        """The ``Content-Type`` without its parameters, in lower case; "" if there is none."""
        for name, value in self.headers:
            if name == b"content-type":
                return value.split(b";")[0].strip().lower().decode("latin-1")
        return ""
