"""Sans-IO codecs and dialects: bytes to messages, messages to meaning, and back.

Nothing here waits, reads or writes; nothing here knows of the rest of the proxy. A *framing* says
how messages become bytes, a *dialect* what they mean; each API is a module that builds its dialects
as data, and :data:`~trioproxy.wire.routes.ROUTES` says which is spoken where.
"""

from trioproxy.wire.anthropic import ANTHROPIC_MESSAGES
from trioproxy.wire.call import (
    BadRequest,
    Call,
    in_foreground,
    read_call,
    wants_background,
    with_model,
    with_stream,
)
from trioproxy.wire.credentials import CREDENTIALS
from trioproxy.wire.dialect import Dialect, Failure, Usage, Verdict
from trioproxy.wire.framing import NDJSON, SSE, Framing, Parser
from trioproxy.wire.llamacpp import LLAMACPP_COMPLETION
from trioproxy.wire.models import Model, models_body, read_models, unlisted_model
from trioproxy.wire.ndjson import NDJSONParser, encode_line
from trioproxy.wire.ollama import OLLAMA_CHAT, OLLAMA_GENERATE
from trioproxy.wire.openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from trioproxy.wire.prompt import measure_prompt
from trioproxy.wire.responses import (
    OPENAI_RESPONSES,
    number_of,
    snapshot_of,
    with_status,
)
from trioproxy.wire.routes import ROUTES, dialect_for, error_dialect_for
from trioproxy.wire.sse import EventTooLarge, Message, SSEParser, encode, encode_comment
from trioproxy.wire.tally import Tally

__all__ = [
    "ANTHROPIC_MESSAGES",
    "CREDENTIALS",
    "LLAMACPP_COMPLETION",
    "NDJSON",
    "OLLAMA_CHAT",
    "OLLAMA_GENERATE",
    "OPENAI_CHAT",
    "OPENAI_COMPLETIONS",
    "OPENAI_RESPONSES",
    "ROUTES",
    "SSE",
    "BadRequest",
    "Call",
    "Dialect",
    "EventTooLarge",
    "Failure",
    "Framing",
    "Message",
    "Model",
    "NDJSONParser",
    "Parser",
    "SSEParser",
    "Tally",
    "Usage",
    "Verdict",
    "dialect_for",
    "encode",
    "encode_comment",
    "encode_line",
    "error_dialect_for",
    "in_foreground",
    "measure_prompt",
    "models_body",
    "number_of",
    "read_call",
    "read_models",
    "snapshot_of",
    "unlisted_model",
    "wants_background",
    "with_model",
    "with_status",
    "with_stream",
]
