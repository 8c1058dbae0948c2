"""Anthropic's Messages API.

The shapes are those of the API reference: messages (https://docs.claude.com/en/api/messages),
streaming (https://docs.claude.com/en/docs/build-with-claude/streaming) and errors
(https://docs.claude.com/en/api/errors).
"""

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from trioproxy.simulator.apis.bodies import (
    Body,
    Content,
    Conversation,
    Tokens,
    decode,
    instructed,
    text_of,
)
from trioproxy.simulator.apis.frames import HOLE, cut_at_holes, json_string, typed_event
from trioproxy.simulator.apis.protocol import Api, Asked, GenerationRequest
from trioproxy.simulator.refusal import Failure
from trioproxy.simulator.text import generate_text, iterate_text

_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _MessagesBody(Body, kw_only=True):
    messages: Conversation
    system: Content = None
    max_tokens: Tokens | None = None


def _read(body: bytes) -> Asked:
    fields = decode(body, _MessagesBody)
    texts = [text_of(message.content) for message in fields.messages]
    return Asked(
        texts=instructed(fields.system, texts),
        model=fields.model,
        tokens=fields.max_tokens,
        seed=fields.seed,
        stream=bool(fields.stream),
    )


class _Reply:
    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._id = "msg_" + secrets.token_hex(12)

    def opening(self) -> bytes:
        begun = self._message(content=[], stop_reason=None, output_tokens=0)
        return b"".join(
            [
                typed_event({"type": "message_start", "message": begun}),
                typed_event(
                    {"type": "content_block_start", "index": 0, "content_block": _block("")}
                ),
                typed_event({"type": "ping"}),
            ]
        )

    def tokens(self) -> Iterator[bytes]:
        delta = {"type": "text_delta", "text": HOLE}
        before, after = cut_at_holes(
            typed_event({"type": "content_block_delta", "index": 0, "delta": delta})
        )
        for token in iterate_text(self._request.prompt, self._request.seed):
            yield before + json_string(token) + after

    def ending(self) -> bytes:
        end = {"stop_reason": "max_tokens", "stop_sequence": None}
        usage = {"output_tokens": self._request.tokens}
        return b"".join(
            [
                typed_event({"type": "content_block_stop", "index": 0}),
                typed_event({"type": "message_delta", "delta": end, "usage": usage}),
                typed_event({"type": "message_stop"}),
            ]
        )

    def failure(self, failure: Failure) -> bytes:
        """Return the error that the reference expects in a stream: the engine is overloaded."""
        return typed_event(_error("overloaded_error", failure.message))

    def whole(self) -> bytes:
        request = self._request
        text = "".join(generate_text(request.prompt, request.tokens, request.seed))
        return msgspec.json.encode(
            self._message([_block(text)], stop_reason="max_tokens", output_tokens=request.tokens)
        )

    def _message(
        self, content: list[dict[str, Any]], stop_reason: str | None, output_tokens: int
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._request.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": self._request.prompt_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output_tokens,
            },
        }


def _block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _tell_error(failure: Failure) -> dict[str, Any]:
    fallback = "api_error" if failure.status >= 500 else "invalid_request_error"
    return _error(_KINDS.get(failure.status, fallback), failure.message)


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


MESSAGES = Api(_read, _Reply, _tell_error, required_tokens="max_tokens")
