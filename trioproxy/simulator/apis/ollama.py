"""Ollama's API: generate, chat, and what a client asks before it uses them.

The shapes are those of the API reference (https://github.com/ollama/ollama/blob/main/docs/api.md).
A stream is lines of JSON, the last of which says `"done": true`; an answer is streamed unless the
body says `"stream": false`. An error is a line too
(https://docs.ollama.com/api/errors#errors-that-occur-while-streaming).
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, TypeAlias

import msgspec

from trioproxy import __version__
from trioproxy.simulator.apis.bodies import (
    Body,
    Conversation,
    Tokens,
    decode,
    instructed,
    text_of,
)
from trioproxy.simulator.apis.frames import HOLE, cut_at_holes, json_string, line
from trioproxy.simulator.apis.protocol import JSON_LINES, Api, Asked, GenerationRequest
from trioproxy.simulator.refusal import Failure
from trioproxy.simulator.text import generate_text, iterate_text

_NS_PER_SECOND = 1_000_000_000

_Say: TypeAlias = Callable[[str | msgspec.Raw], dict[str, Any]]


class _Options(msgspec.Struct):
    num_predict: Tokens | None = None
    seed: int | None = None


class _OllamaBody(Body, kw_only=True):
    options: _Options | None = None

    def asked(self, texts: list[str]) -> Asked:
        options = self.options or _Options()
        return Asked(
            texts=texts,
            model=self.model,
            tokens=options.num_predict,
            seed=options.seed,
            stream=self.stream is not False,
        )


class _GenerateBody(_OllamaBody, kw_only=True):
    prompt: str
    system: str | None = None


class _ChatBody(_OllamaBody, kw_only=True):
    messages: Conversation


def _read_generate(body: bytes) -> Asked:
    fields = decode(body, _GenerateBody)
    return fields.asked(instructed(fields.system, [fields.prompt]))


def _read_chat(body: bytes) -> Asked:
    fields = decode(body, _ChatBody)
    return fields.asked([text_of(message.content) for message in fields.messages])


class _Reply:
    def __init__(self, say: _Say, request: GenerationRequest) -> None:
        self._say = say
        self._request = request

    def opening(self) -> bytes:
        return b""

    def tokens(self) -> Iterator[bytes]:
        before, between, after = cut_at_holes(
            line(
                {
                    "model": self._request.model,
                    "created_at": HOLE,
                    **self._say(HOLE),
                    "done": False,
                }
            )
        )
        for token in iterate_text(self._request.prompt, self._request.seed):
            yield before + b'"%s"' % _now().encode() + between + json_string(token) + after

    def ending(self) -> bytes:
        return line(self._end(""))

    def failure(self, failure: Failure) -> bytes:
        return line(_tell_error(failure))

    def whole(self) -> bytes:
        request = self._request
        text = generate_text(request.prompt, request.tokens, request.seed)
        return msgspec.json.encode(self._end("".join(text)))

    def _end(self, text: str) -> dict[str, Any]:
        request = self._request
        return {
            "model": request.model,
            "created_at": _now(),
            **self._say(text),
            "done": True,
            "done_reason": "length",
            "total_duration": request.prompt_ns + request.answer_ns,
            "load_duration": 0,
            "prompt_eval_count": request.prompt_tokens,
            "prompt_eval_duration": request.prompt_ns,
            "eval_count": request.tokens,
            "eval_duration": request.answer_ns,
        }


def _now() -> str:
    """Return the wall clock as RFC 3339, with nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), _NS_PER_SECOND)
    return f"{_to_the_second(seconds)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=1)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _tell_error(failure: Failure) -> dict[str, str]:
    return {"error": failure.message}


def list_tags(model: str) -> dict[str, Any]:
    """Return what `GET /api/tags` answers where there is this one model."""
    entry = {
        "name": model,
        "model": model,
        "modified_at": "1970-01-01T00:00:00Z",
        "size": 0,
        "digest": hashlib.sha256(model.encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "simulated",
            "families": ["simulated"],
            "parameter_size": "0B",
            "quantization_level": "F32",
        },
    }
    return {"models": [entry]}


def tell_version() -> dict[str, str]:
    """Return what `GET /api/version` answers: this program's version."""
    return {"version": __version__}


GENERATE = Api(
    _read_generate,
    partial(_Reply, lambda text: {"response": text}),
    _tell_error,
    framing=JSON_LINES,
)
CHAT = Api(
    _read_chat,
    partial(_Reply, lambda text: {"message": {"role": "assistant", "content": text}}),
    _tell_error,
    framing=JSON_LINES,
)
