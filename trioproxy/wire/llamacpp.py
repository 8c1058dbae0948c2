"""llama.cpp's own completion route: unnamed events of JSON, the last of which says `"stop": true`.

Source: the documentation of llama.cpp's server ("POST /completion: Given a prompt, it returns the
predicted completion") and what it sends.
"""

import msgspec

from trioproxy.wire.dialect import Dialect, Failure, Usage, Verdict, usage_of
from trioproxy.wire.framing import SSE
from trioproxy.wire.reading import decode, tells_error
from trioproxy.wire.sse import Message, encode_comment


class _Chunk(msgspec.Struct):
    content: str | None = None
    stop: bool = False
    tokens_evaluated: int | None = None
    tokens_predicted: int | None = None


_chunks = msgspec.json.Decoder(_Chunk)


def _verdict(message: Message) -> Verdict | None:
    data = message.data
    if data.find(b"true") >= 0:
        chunk = decode(_chunks, data)
        if chunk is not None and chunk.stop:
            return Verdict.COMPLETED
    return Verdict.FAILED if message.name == b"error" or tells_error(data) else None


def _text(message: Message) -> str:
    chunk = decode(_chunks, message.data)
    return (chunk and chunk.content) or ""


def _usage(message: Message) -> Usage | None:
    """Each event counts; the last one counts for the whole."""
    if message.data.find(b'"tokens_predicted"') < 0:
        return None
    chunk = decode(_chunks, message.data)
    return chunk and usage_of(chunk.tokens_evaluated, chunk.tokens_predicted)


def _error_body(failure: Failure) -> bytes:
    error = {"code": failure.status, "message": failure.message, "type": failure.type}
    return msgspec.json.encode({"error": error})


def _failure(failure: Failure, events: int) -> tuple[Message, ...]:
    return (Message(None, _error_body(failure)),)


LLAMACPP_COMPLETION = Dialect(
    name="llamacpp.completion",
    operation="text_completion",
    framing=SSE,
    heartbeat=encode_comment(),
    verdict=_verdict,
    text=_text,
    usage=_usage,
    failure=_failure,
    error_body=_error_body,
)
"""`POST /completion`."""
