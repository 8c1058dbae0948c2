"""The two streaming dialects of the OpenAI API: completions and chat completions.

Source: the API reference, "Completions" and "Chat Completions, Streaming"
(https://platform.openai.com/docs/api-reference/chat-streaming), and the engines that speak it. A
stream is unnamed events of JSON and ends in `data: [DONE]`. The two dialects differ only in where
the text is: `choices[].text` or `choices[].delta.content`.

An error in the stream is an event whose JSON tells one (`reading.tells_error`), or whose SSE event
name is `error`.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from trioproxy.wire.dialect import Dialect, Failure, Usage, Verdict, usage_of
from trioproxy.wire.framing import SSE
from trioproxy.wire.reading import decode, tells_error
from trioproxy.wire.sse import Message, encode_comment

_DONE = Message(None, b"[DONE]")


class _Metered(msgspec.Struct):
    usage: Usage | None = None


class _CompletionChoice(msgspec.Struct):
    text: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_CompletionChoice] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _ChatChoice(msgspec.Struct):
    delta: _Delta | None = None


class _ChatCompletion(msgspec.Struct):
    choices: list[_ChatChoice] | None = None


_metered = msgspec.json.Decoder(_Metered)
_completions = msgspec.json.Decoder(_Completion)
_chat_completions = msgspec.json.Decoder(_ChatCompletion)


def _verdict(message: Message) -> Verdict | None:
    name, data = message
    # By its first bytes, because that is where the official clients stop reading.
    if data[:6] == b"[DONE]":
        return Verdict.COMPLETED
    if name == b"error":
        return Verdict.FAILED
    return Verdict.FAILED if tells_error(data) else None


def _usage(message: Message) -> Usage | None:
    if message.data.find(b'"usage"') < 0:
        return None
    metered = decode(_metered, message.data)
    usage = metered and metered.usage
    return usage and usage_of(usage.prompt_tokens, usage.completion_tokens)


def _completion_text(message: Message) -> str:
    chunk = decode(_completions, message.data)
    if chunk is None or chunk.choices is None:
        return ""
    return "".join(choice.text for choice in chunk.choices if choice.text)


def _chat_text(message: Message) -> str:
    chunk = decode(_chat_completions, message.data)
    if chunk is None or chunk.choices is None:
        return ""
    deltas = [choice.delta for choice in chunk.choices if choice.delta]
    return "".join(delta.content for delta in deltas if delta.content)


def error_body(failure: Failure) -> bytes:
    """Return OpenAI's error object: a message, a type, and where known a param and a code."""
    error = {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
    }
    return msgspec.json.encode({"error": error})


def _failure(failure: Failure, events: int) -> tuple[Message, ...]:
    return (Message(None, error_body(failure)), _DONE)


def _dialect(
    name: str,
    text: Callable[[Message], str],
    operation: Literal["chat", "text_completion"] = "chat",
) -> Dialect:
    return Dialect(
        name=name,
        operation=operation,
        framing=SSE,
        heartbeat=encode_comment(),
        closing=(_DONE,),
        verdict=_verdict,
        text=text,
        usage=_usage,
        failure=_failure,
        error_body=error_body,
    )


OPENAI_COMPLETIONS = _dialect("openai.completions", _completion_text, "text_completion")
"""`POST /v1/completions`."""

OPENAI_CHAT = _dialect("openai.chat", _chat_text)
"""`POST /v1/chat/completions`."""
