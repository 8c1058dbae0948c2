"""The Responses API of OpenAI: named events, numbered, about one response object.

Source: the API reference, "Responses, Streaming events"
(https://platform.openai.com/docs/api-reference/responses-streaming). A stream ends in
`response.completed`, `response.incomplete` or `response.failed`, and in no `[DONE]`. Each event has
a `sequence_number`, dense from 0, by which a reader resumes; llama.cpp sends none. An error is told
here both as the reference has it, on the top level of its event, and in an object "error", as the
API sends it and as the official clients look for it.
"""

import msgspec

from trioproxy.wire.dialect import Dialect, Failure, Usage, Verdict, usage_of
from trioproxy.wire.framing import SSE
from trioproxy.wire.openai import error_body
from trioproxy.wire.reading import decode, tells_error
from trioproxy.wire.sse import Message, encode_comment

_VERDICTS = {
    b"response.completed": Verdict.COMPLETED,
    b"response.incomplete": Verdict.COMPLETED,
    b"response.failed": Verdict.FAILED,
    b"response.cancelled": Verdict.FAILED,
    b"error": Verdict.FAILED,
}


class _Typed(msgspec.Struct):
    type: str


class _Numbered(msgspec.Struct):
    sequence_number: int | None = None


class _Tokens(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Response(msgspec.Struct):
    id: str | None = None
    usage: _Tokens | None = None


class _Told(msgspec.Struct):
    response: _Response | None = None


class _Snapshot(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw(b"null")


class _Text(msgspec.Struct):
    delta: str | None = None


_types = msgspec.json.Decoder(_Typed)
_numbers = msgspec.json.Decoder(_Numbered)
_told = msgspec.json.Decoder(_Told)
_snapshots = msgspec.json.Decoder(_Snapshot)
_texts = msgspec.json.Decoder(_Text)
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])


def number_of(data: bytes) -> int | None:
    """Return the `sequence_number` of an event, None if it has none."""
    numbered = decode(_numbers, data)
    return numbered and numbered.sequence_number


def snapshot_of(data: bytes) -> bytes | None:
    """Return the response object that an event tells whole, as it stands there; None for most."""
    if data.find(b'"response"') < 0:
        return None
    snapshot = decode(_snapshots, data)
    response = bytes(snapshot.response) if snapshot is not None else b""
    return response if response.startswith(b"{") else None


def with_status(response: bytes, status: str, failure: Failure | None = None) -> bytes:
    """Return a response object with another status, and the error that is the reason for it."""
    fields = decode(_objects, response) or {}
    fields["status"] = msgspec.Raw(msgspec.json.encode(status))
    if failure is not None:
        error = {"code": failure.code or failure.type, "message": failure.message}
        fields["error"] = msgspec.Raw(msgspec.json.encode(error))
    return msgspec.json.encode(fields)


def _kind(message: Message) -> bytes:
    if message.name is not None:
        return message.name
    typed = decode(_types, message.data)
    return typed.type.encode("utf-8", "replace") if typed is not None else b""


def _verdict(message: Message) -> Verdict | None:
    verdict = _VERDICTS.get(_kind(message))
    if verdict is None and tells_error(message.data):
        return Verdict.FAILED
    return verdict


def _text(message: Message) -> str:
    if _kind(message) != b"response.output_text.delta":
        return ""
    text = decode(_texts, message.data)
    return (text and text.delta) or ""


def _usage(message: Message) -> Usage | None:
    if message.data.find(b'"usage"') < 0:
        return None
    told = decode(_told, message.data)
    tokens = told and told.response and told.response.usage
    return usage_of(tokens.input_tokens, tokens.output_tokens) if tokens else None


def _answer_id(message: Message) -> str | None:
    if message.data.find(b'"response"') < 0:
        return None
    told = decode(_told, message.data)
    return told and told.response and told.response.id


def _with_number(data: bytes, number: int) -> bytes:
    numbered = decode(_numbers, data)
    if numbered is None or numbered.sequence_number is not None:
        return data  # no object, in which there would be a place for it; or it has one
    end = data.rindex(b"}")
    members = data[:end].rstrip()
    comma = b"" if members.endswith(b"{") else b","
    return members + comma + b'"sequence_number":%d' % number + data[end:]


def _failure(failure: Failure, events: int) -> tuple[Message, ...]:
    error = {
        "type": failure.type,
        "code": failure.code,
        "message": failure.message,
        "param": failure.param,
    }
    told = error | {"type": "error", "sequence_number": events, "error": error}
    return (Message(b"error", msgspec.json.encode(told)),)


OPENAI_RESPONSES = Dialect(
    name="openai.responses",
    framing=SSE,
    heartbeat=encode_comment(),
    verdict=_verdict,
    text=_text,
    usage=_usage,
    answer_id=_answer_id,
    numbered=_with_number,
    failure=_failure,
    error_body=error_body,
)
"""`POST /v1/responses`."""
