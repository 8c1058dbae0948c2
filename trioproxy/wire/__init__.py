"""Sans-IO codecs and dialects: bytes to messages, messages to meaning, and back.

Nothing here waits, reads or writes; nothing here knows of the rest of the proxy.
"""

from trioproxy.wire.call import BadRequest, Call, read_call, with_stream
from trioproxy.wire.dialect import Dialect, Failure, Parser, Usage, Verdict
from trioproxy.wire.openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from trioproxy.wire.routes import ROUTES, dialect_for
from trioproxy.wire.sse import EventTooLarge, Message, SSEParser, encode, encode_comment

__all__ = [
    "OPENAI_CHAT",
    "OPENAI_COMPLETIONS",
    "ROUTES",
    "BadRequest",
    "Call",
    "Dialect",
    "EventTooLarge",
    "Failure",
    "Message",
    "Parser",
    "SSEParser",
    "Usage",
    "Verdict",
    "dialect_for",
    "encode",
    "encode_comment",
    "read_call",
    "with_stream",
]
