"""The two streaming dialects of the OpenAI API: completions and chat completions.

Source: the API reference, "Completions" and "Chat Completions, Streaming"
(https://platform.openai.com/docs/api-reference/chat-streaming), and the engines that speak it. A
stream is unnamed events of JSON and ends in `data: [DONE]`. The two dialects differ only in where
the text is: `choices[].text` or `choices[].delta.content`.

An error in the stream is an event whose JSON has a top-level "error" that is not null or a
top-level "object" of "error" (vLLM), or whose SSE event name is `error`.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from trioproxy.wire.dialect import Dialect, Failure, Usage, Verdict
from trioproxy.wire.sse import Message, SSEParser, encode, encode_comment

_T = TypeVar("_T")

_DONE = Message(None, b"[DONE]")
_NULL = msgspec.Raw(b"null")
_ERROR = msgspec.Raw(b'"error"')


class _Envelope(msgspec.Struct):
    error: msgspec.Raw = _NULL
    object: msgspec.Raw = _NULL


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


_envelopes = msgspec.json.Decoder(_Envelope)
_metered = msgspec.json.Decoder(_Metered)
_completions = msgspec.json.Decoder(_Completion)
_chat_completions = msgspec.json.Decoder(_ChatCompletion)


def _decode(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T | None:
    """Return what the decoder makes of the data; None if it is malformed or of another shape."""
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):  # of msgspec, of UTF-8; of JSON that is nested too deeply
        return None


def _verdict(message: Message) -> Verdict | None:
    name, data = message
    # By its first bytes, because that is where the official clients stop reading.
    if data[:6] == b"[DONE]":
        return Verdict.COMPLETED
    if name == b"error":
        return Verdict.FAILED
    # Ordinary tokens leave here, undecoded. Quotes inside a JSON string are escaped, so what passes
    # has "error" as a key or as a whole string, such as a token that is just that word. By find(),
    # because `in` first tries its operand as an integer, which costs as much again as the search.
    if data.find(b'"error"') < 0:
        return None
    envelope = _decode(_envelopes, data)
    if envelope is None or (envelope.error == _NULL and envelope.object != _ERROR):
        return None
    return Verdict.FAILED


def _usage(message: Message) -> Usage | None:
    if b'"usage"' not in message.data:
        return None
    metered = _decode(_metered, message.data)
    return metered and metered.usage


def _completion_text(message: Message) -> str:
    chunk = _decode(_completions, message.data)
    if chunk is None or chunk.choices is None:
        return ""
    return "".join(choice.text for choice in chunk.choices if choice.text)


def _chat_text(message: Message) -> str:
    chunk = _decode(_chat_completions, message.data)
    if chunk is None or chunk.choices is None:
        return ""
    deltas = [choice.delta for choice in chunk.choices if choice.delta]
    return "".join(delta.content for delta in deltas if delta.content)


def _error_body(failure: Failure) -> bytes:
    error = {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
    }
    return msgspec.json.encode({"error": error})


def _failure(failure: Failure) -> tuple[Message, ...]:
    return (Message(None, _error_body(failure)), _DONE)


def _dialect(name: str, text: Callable[[Message], str]) -> Dialect:
    return Dialect(
        name=name,
        media_type="text/event-stream",
        parser=SSEParser,
        encode=encode,
        heartbeat=encode_comment(),
        closing=(_DONE,),
        verdict=_verdict,
        text=text,
        usage=_usage,
        failure=_failure,
        error_body=_error_body,
    )


OPENAI_COMPLETIONS = _dialect("openai.completions", _completion_text)
"""`POST /v1/completions`."""

OPENAI_CHAT = _dialect("openai.chat", _chat_text)
"""`POST /v1/chat/completions`."""
