"""What the gateway is told in tables of the file: who may call, and which engine answers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from trioproxy.config.naming import KeyHash, Name
from trioproxy.config.routing import RouteEntry, UpstreamEntry


class TenantEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[tenant]]`: its name, the hashes of its keys, whether it may see what operators see
    (metrics, the census, everybody's generations), and what it may use, where that is not what
    everybody may: `max_subscribers` are the readers that all of its generations have at a time."""

    name: Name
    keys: Annotated[tuple[KeyHash, ...], Meta(min_length=1)]
    admin: bool = False
    requests_per_minute: Annotated[float, Meta(ge=1)] | None = None
    max_generations: Annotated[float, Meta(ge=1)] | None = None
    max_subscribers: Annotated[float, Meta(ge=1)] | None = None


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """The tables. Without tenants, whoever reaches the proxy may use it; without upstreams, the one
    that `[server]` names answers for all models."""

    tenants: tuple[TenantEntry, ...] = ()
    upstreams: tuple[UpstreamEntry, ...] = ()
    routes: tuple[RouteEntry, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key."""
        return not self.tenants
