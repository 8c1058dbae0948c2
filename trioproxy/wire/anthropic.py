"""The Messages API of Anthropic: named events, from `message_start` to `message_stop`.

Source: the API's documentation, "Streaming messages" and "Errors"
(https://docs.anthropic.com/en/api/messages-streaming, https://docs.anthropic.com/en/api/errors).
"""

import msgspec

from trioproxy.wire.dialect import Dialect, Failure, Usage, Verdict, usage_of
from trioproxy.wire.framing import SSE
from trioproxy.wire.reading import decode, tells_error
from trioproxy.wire.sse import Message, encode

_VERDICTS = {b"message_stop": Verdict.COMPLETED, b"error": Verdict.FAILED}

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""What Anthropic calls an error of this HTTP status."""


class _Tokens(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Opening(msgspec.Struct):
    usage: _Tokens | None = None


class _Metered(msgspec.Struct):
    message: _Opening | None = None
    usage: _Tokens | None = None


class _Delta(msgspec.Struct):
    text: str | None = None


class _Block(msgspec.Struct):
    delta: _Delta | None = None


_metered = msgspec.json.Decoder(_Metered)
_blocks = msgspec.json.Decoder(_Block)


def _verdict(message: Message) -> Verdict | None:
    verdict = _VERDICTS.get(message.name or b"")
    if verdict is None and tells_error(message.data):
        return Verdict.FAILED
    return verdict


def _text(message: Message) -> str:
    if message.name != b"content_block_delta":
        return ""
    block = decode(_blocks, message.data)
    return (block and block.delta and block.delta.text) or ""


def _usage(message: Message) -> Usage | None:
    """What went in is told by the first event, which counts no output yet; what came out by the
    last but one."""
    if message.data.find(b'"usage"') < 0:
        return None
    metered = decode(_metered, message.data)
    if metered is None:
        return None
    if metered.usage is not None:
        return usage_of(metered.usage.input_tokens, metered.usage.output_tokens)
    opening = metered.message and metered.message.usage
    return usage_of(opening.input_tokens, None) if opening else None


def _error_body(failure: Failure) -> bytes:
    kind = _ERROR_TYPES.get(
        failure.status, "invalid_request_error" if failure.status < 500 else "api_error"
    )
    return msgspec.json.encode(
        {"type": "error", "error": {"type": kind, "message": failure.message}}
    )


def _failure(failure: Failure, events: int) -> tuple[Message, ...]:
    return (Message(b"error", _error_body(failure)),)


ANTHROPIC_MESSAGES = Dialect(
    name="anthropic.messages",
    framing=SSE,
    heartbeat=encode(Message(b"ping", b'{"type": "ping"}')),
    verdict=_verdict,
    text=_text,
    usage=_usage,
    failure=_failure,
    error_body=_error_body,
)
"""`POST /v1/messages`."""
