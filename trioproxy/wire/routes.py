"""Which dialect is spoken on which path."""

from collections.abc import Mapping
from types import MappingProxyType

from trioproxy.wire.dialect import Dialect
from trioproxy.wire.openai import OPENAI_CHAT, OPENAI_COMPLETIONS

ROUTES: Mapping[str, Dialect] = MappingProxyType(
    {
        "/v1/completions": OPENAI_COMPLETIONS,
        "/v1/chat/completions": OPENAI_CHAT,
    }
)
"""The paths on which a generation is asked for, without a query, each with its dialect."""


def dialect_for(path: str) -> Dialect | None:
    """Return the dialect of exactly this path (no query), None where no generation is asked for."""
    return ROUTES.get(path)
