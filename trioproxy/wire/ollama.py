"""The API of Ollama: lines of JSON, the last of which says `"done": true`; streamed by default.

Source: the API's documentation, "Generate a completion" and "Generate a chat completion"
(https://github.com/ollama/ollama/blob/main/docs/api.md). An error in the stream is a line with an
"error", whose value is a string.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from trioproxy.wire.dialect import Dialect, Failure, Usage, Verdict, usage_of
from trioproxy.wire.framing import NDJSON
from trioproxy.wire.reading import decode, tells_error
from trioproxy.wire.sse import Message


class _Line(msgspec.Struct):
    done: bool = False
    prompt_eval_count: int | None = None
    eval_count: int | None = None


class _Completion(msgspec.Struct):
    response: str | None = None


class _ChatMessage(msgspec.Struct):
    content: str | None = None


class _Chat(msgspec.Struct):
    message: _ChatMessage | None = None


_lines = msgspec.json.Decoder(_Line)
_completions = msgspec.json.Decoder(_Completion)
_chats = msgspec.json.Decoder(_Chat)


def _verdict(message: Message) -> Verdict | None:
    data = message.data
    if data.find(b"true") >= 0:
        line = decode(_lines, data)
        if line is not None and line.done:
            return Verdict.COMPLETED
    return Verdict.FAILED if tells_error(data) else None


def _usage(message: Message) -> Usage | None:
    if message.data.find(b'"eval_count"') < 0:
        return None
    line = decode(_lines, message.data)
    return line and usage_of(line.prompt_eval_count, line.eval_count)


def _completion_text(message: Message) -> str:
    line = decode(_completions, message.data)
    return (line and line.response) or ""


def _chat_text(message: Message) -> str:
    line = decode(_chats, message.data)
    return (line and line.message and line.message.content) or ""


def _error_body(failure: Failure) -> bytes:
    return msgspec.json.encode({"error": failure.message})


def _failure(failure: Failure, events: int) -> tuple[Message, ...]:
    return (Message(None, _error_body(failure)),)


def _dialect(
    name: str,
    text: Callable[[Message], str],
    operation: Literal["chat", "text_completion"] = "chat",
) -> Dialect:
    return Dialect(
        name=name,
        operation=operation,
        framing=NDJSON,
        streams_by_default=True,
        heartbeat=b"",
        verdict=_verdict,
        text=text,
        usage=_usage,
        failure=_failure,
        error_body=_error_body,
    )


OLLAMA_GENERATE = _dialect("ollama.generate", _completion_text, "text_completion")
"""`POST /api/generate`."""

OLLAMA_CHAT = _dialect("ollama.chat", _chat_text)
"""`POST /api/chat`."""
