"""Which dialect is spoken on which path."""

from collections.abc import Mapping
from types import MappingProxyType

from trioproxy.wire.anthropic import ANTHROPIC_MESSAGES
from trioproxy.wire.dialect import Dialect
from trioproxy.wire.llamacpp import LLAMACPP_COMPLETION
from trioproxy.wire.ollama import OLLAMA_CHAT, OLLAMA_GENERATE
from trioproxy.wire.openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from trioproxy.wire.responses import OPENAI_RESPONSES

ROUTES: Mapping[str, Dialect] = MappingProxyType(
    {
        "/v1/completions": OPENAI_COMPLETIONS,
        "/v1/chat/completions": OPENAI_CHAT,
        "/v1/responses": OPENAI_RESPONSES,
        "/v1/messages": ANTHROPIC_MESSAGES,
        "/completion": LLAMACPP_COMPLETION,
        "/api/generate": OLLAMA_GENERATE,
        "/api/chat": OLLAMA_CHAT,
    }
)
"""The paths on which a generation is asked for, without a query, each with its dialect."""

_NEAREST = (
    ("/v1/messages", ANTHROPIC_MESSAGES),
    ("/api/", OLLAMA_CHAT),
)


def dialect_for(path: str) -> Dialect | None:
    """Return the dialect of exactly this path (no query), None where no generation is asked for."""
    return ROUTES.get(path)


def error_dialect_for(path: str) -> Dialect:
    """Return the dialect in which the clients of this path expect to hear of an error."""
    exactly = ROUTES.get(path)
    if exactly is not None:
        return exactly
    return next((dialect for start, dialect in _NEAREST if path.startswith(start)), OPENAI_CHAT)
