"""The engine's answers as OpenAI's JSON, built so that a token costs one concatenation.

The shapes are those of the API reference: completions
(https://platform.openai.com/docs/api-reference/completions/object) and chat completions
(https://platform.openai.com/docs/api-reference/chat/object and chat-streaming). What is the same in
every event of a stream is encoded once, when the stream begins.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from trioproxy.simulator.request import GenerationRequest
from trioproxy.simulator.text import generate_text, iterate_text
from trioproxy.wire import Message, encode


@dataclass(frozen=True)
class _Shape:
    """How one endpoint answers.

    The bytes are what follows the index in a streamed choice: the parts around a token, the whole
    opening (b"" where there is none) and the whole end.
    """

    id_prefix: str
    kind: str
    chunk_kind: str
    before_text: bytes
    after_text: bytes
    opening: bytes
    end: bytes
    whole_choice: Callable[[str], dict[str, Any]]


_COMPLETION = _Shape(
    id_prefix="cmpl-",
    kind="text_completion",
    chunk_kind="text_completion",
    before_text=b'"text":',
    after_text=b',"logprobs":null,"finish_reason":null}',
    opening=b"",
    end=b'"text":"","logprobs":null,"finish_reason":"length"}',
    whole_choice=lambda text: {"text": text},
)

_CHAT = _Shape(
    id_prefix="chatcmpl-",
    kind="chat.completion",
    chunk_kind="chat.completion.chunk",
    before_text=b'"delta":{"content":',
    after_text=b'},"logprobs":null,"finish_reason":null}',
    opening=b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}',
    end=b'"delta":{},"logprobs":null,"finish_reason":"length"}',
    whole_choice=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
)


class Reply:
    """The answer to one request: as a stream, `frames` and then `tail`, or as a `whole`."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._shape = shape = _CHAT if request.chat else _COMPLETION
        self._head: dict[str, Any] = {
            "id": shape.id_prefix + secrets.token_hex(12),
            "object": shape.kind,
            "created": int(time.time()),
            "model": request.model,
        }
        chunk_head = msgspec.json.encode(self._head | {"object": shape.chunk_kind})
        self._event_head = b"data: " + chunk_head[:-1] + b',"choices":['
        # With include_usage, all chunks but the last have a null usage (stream_options).
        self._event_end = b'],"usage":null}\n\n' if request.include_usage else b"]}\n\n"

    def frames(self) -> Iterator[bytes]:
        """Yield, for each token position, the event of every choice; for ever.

        In a chat, the events that tell the role come with the first.
        """
        suffix = self._shape.after_text + self._event_end
        lanes = [
            (
                self._event_head + b'{"index":%d,' % index + self._shape.before_text,
                iterate_text(self._request.prompt, self._request.seed + index),
            )
            for index in range(self._request.choices)
        ]
        opening = self._of_every_choice(self._shape.opening) if self._shape.opening else b""
        while True:
            tokens = [prefix + _json_string(next(text)) + suffix for prefix, text in lanes]
            yield opening + b"".join(tokens)
            opening = b""

    def tail(self) -> bytes:
        """Return what follows the last token: the finish, the usage if asked for, `[DONE]`."""
        end = self._of_every_choice(self._shape.end)
        if self._request.include_usage:
            usage = msgspec.json.encode(self._usage())
            end += self._event_head + b'],"usage":' + usage + b"}\n\n"
        return end + encode(Message(None, b"[DONE]"))

    def whole(self) -> bytes:
        """Return the answer to a request that asks for no stream."""
        request = self._request
        choices = [
            {
                "index": index,
                **self._shape.whole_choice(
                    "".join(generate_text(request.prompt, request.tokens, request.seed + index))
                ),
                "logprobs": None,
                "finish_reason": "length",
            }
            for index in range(request.choices)
        ]
        return msgspec.json.encode(self._head | {"choices": choices, "usage": self._usage()})

    def _of_every_choice(self, rest: bytes) -> bytes:
        return b"".join(
            self._event_head + b'{"index":%d,' % index + rest + self._event_end
            for index in range(self._request.choices)
        )

    def _usage(self) -> dict[str, int]:
        """Count the tokens; a word of the prompt counts as one."""
        prompt_tokens = len(self._request.prompt.split())
        completion_tokens = self._request.tokens * self._request.choices
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }


@lru_cache(maxsize=1024)  # more than there are words
def _json_string(token: str) -> bytes:
    return msgspec.json.encode(token)
