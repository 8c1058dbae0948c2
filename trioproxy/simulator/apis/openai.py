"""OpenAI's completions and chat completions.

The shapes are those of the API reference: completions
(https://platform.openai.com/docs/api-reference/completions/object), chat completions
(https://platform.openai.com/docs/api-reference/chat/object and chat-streaming), models
(https://platform.openai.com/docs/api-reference/models/object) and errors
(https://platform.openai.com/docs/guides/error-codes).
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trioproxy.simulator.apis.bodies import (
    Body,
    Conversation,
    Prompt,
    Tokens,
    decode,
    text_of,
    text_of_prompt,
)
from trioproxy.simulator.apis.frames import HOLE, cut_at_holes, event, json_string
from trioproxy.simulator.apis.protocol import Api, Asked, GenerationRequest
from trioproxy.simulator.refusal import Failure
from trioproxy.simulator.text import generate_text, iterate_text
from trioproxy.wire.sse import Message, encode


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _OpenAIBody(Body, kw_only=True):
    max_tokens: Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stream_options: _StreamOptions | None = None

    def asked(self, texts: list[str], tokens: int | None) -> Asked:
        return Asked(
            texts=texts,
            model=self.model,
            tokens=tokens,
            seed=self.seed,
            stream=bool(self.stream),
            choices=self.n or 1,
            include_usage=bool(self.stream_options and self.stream_options.include_usage),
        )


class _CompletionBody(_OpenAIBody, kw_only=True):
    prompt: Prompt


class _ChatBody(_OpenAIBody, kw_only=True):
    messages: Conversation
    max_completion_tokens: Tokens | None = None


def _read_completion(body: bytes) -> Asked:
    fields = decode(body, _CompletionBody)
    return fields.asked([text_of_prompt(fields.prompt)], fields.max_tokens)


def _read_chat(body: bytes) -> Asked:
    fields = decode(body, _ChatBody)
    texts = [text_of(message.content) for message in fields.messages]
    return fields.asked(texts, fields.max_completion_tokens or fields.max_tokens)


@dataclass(frozen=True)
class _Shape:
    """How one endpoint answers: what a choice has, besides its index, in each of its frames.

    `opening` is None where nothing comes before the first token.
    """

    id_prefix: str
    kind: str
    chunk_kind: str
    opening: dict[str, Any] | None
    token: dict[str, Any]
    ending: dict[str, Any]
    whole: Callable[[str], dict[str, Any]]


_COMPLETION = _Shape(
    id_prefix="cmpl-",
    kind="text_completion",
    chunk_kind="text_completion",
    opening=None,
    token={"text": HOLE},
    ending={"text": ""},
    whole=lambda text: {"text": text},
)

_CHAT = _Shape(
    id_prefix="chatcmpl-",
    kind="chat.completion",
    chunk_kind="chat.completion.chunk",
    opening={"delta": {"role": "assistant", "content": ""}},
    token={"delta": {"content": HOLE}},
    ending={"delta": {}},
    whole=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
)


class _Reply:
    def __init__(self, shape: _Shape, request: GenerationRequest) -> None:
        self._shape = shape
        self._request = request
        self._head: dict[str, Any] = {
            "id": shape.id_prefix + secrets.token_hex(12),
            "object": shape.kind,
            "created": int(time.time()),
            "model": request.model,
        }

    def opening(self) -> bytes:
        return self._of_every_choice(self._shape.opening) if self._shape.opening else b""

    def tokens(self) -> Iterator[bytes]:
        lanes = [
            (*cut_at_holes(self._chunk(index, self._shape.token)), text)
            for index, text in enumerate(self._texts())
        ]
        while True:
            yield b"".join(
                before + json_string(next(text)) + after for before, after, text in lanes
            )

    def ending(self) -> bytes:
        """Return the finish, the usage if it was asked for, and `[DONE]`."""
        ending = self._of_every_choice(self._shape.ending, finish_reason="length")
        if self._request.include_usage:
            ending += self._event([], self._usage())
        return ending + encode(Message(None, b"[DONE]"))

    def failure(self, failure: Failure) -> bytes:
        return event(tell_error(failure))

    def whole(self) -> bytes:
        request = self._request
        choices = [
            _choice(
                index,
                self._shape.whole(
                    "".join(generate_text(request.prompt, request.tokens, request.seed + index))
                ),
                finish_reason="length",
            )
            for index in range(request.choices)
        ]
        return msgspec.json.encode(self._head | {"choices": choices, "usage": self._usage()})

    def _texts(self) -> Iterator[Iterator[str]]:
        for index in range(self._request.choices):
            yield iterate_text(self._request.prompt, self._request.seed + index)

    def _of_every_choice(self, part: dict[str, Any], finish_reason: str | None = None) -> bytes:
        return b"".join(
            self._chunk(index, part, finish_reason) for index in range(self._request.choices)
        )

    def _chunk(self, index: int, part: dict[str, Any], finish_reason: str | None = None) -> bytes:
        return self._event([_choice(index, part, finish_reason)])

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
        data = self._head | {"object": self._shape.chunk_kind, "choices": choices}
        # With include_usage, all chunks but the last have a null usage (stream_options).
        return event(data | {"usage": usage} if self._request.include_usage else data)

    def _usage(self) -> dict[str, int]:
        prompt_tokens = self._request.prompt_tokens
        completion_tokens = self._request.tokens * self._request.choices
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }


def _choice(index: int, part: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, **part, "logprobs": None, "finish_reason": finish_reason}


def tell_error(failure: Failure) -> dict[str, dict[str, str | None]]:
    """Return OpenAI's error object, whose `type` follows from the status."""
    if failure.status >= 500:
        kind = "server_error"
    else:
        kind = "rate_limit_error" if failure.status == 429 else "invalid_request_error"
    return {
        "error": {
            "message": failure.message,
            "type": kind,
            "param": failure.param,
            "code": failure.code,
        }
    }


def list_models(model: str) -> dict[str, Any]:
    """Return what `GET /v1/models` answers where there is this one model."""
    entry = {"id": model, "object": "model", "created": 0, "owned_by": "trioproxy"}
    return {"object": "list", "data": [entry]}


COMPLETIONS = Api(_read_completion, partial(_Reply, _COMPLETION), tell_error)
CHAT_COMPLETIONS = Api(_read_chat, partial(_Reply, _CHAT), tell_error)
