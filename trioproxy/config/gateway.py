"""What the gateway is told in tables of the file: who may call."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

HASHED = "sha256:"
"""How the hash of a key begins in the file."""

KEY_HASH = rf"^{HASHED}[0-9a-f]{{64}}\Z"

NAME_EXPECTED = "up to 64 letters, digits, dots, dashes and underscores"

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class TenantEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[tenant]]`: its name, the hashes of its keys, and whether it may see what operators
    see (metrics, the census, everybody's generations)."""

    name: Name
    keys: Annotated[tuple[Annotated[str, Meta(pattern=KEY_HASH)], ...], Meta(min_length=1)]
    admin: bool = False


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """The tables. Without tenants, whoever reaches the proxy may use it."""

    tenants: tuple[TenantEntry, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key."""
        return not self.tenants
