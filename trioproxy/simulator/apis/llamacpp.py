"""llama.cpp's own completion API.

The shapes are those that its server sends and documents
(https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md#post-completion). A stream
has no `[DONE]`: its last event says `"stop": true`.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec

from trioproxy.simulator.apis.bodies import Body, Prompt, Tokens, decode, text_of_prompt
from trioproxy.simulator.apis.frames import HOLE, cut_at_holes, event, json_string
from trioproxy.simulator.apis.protocol import Api, Asked, GenerationRequest
from trioproxy.simulator.refusal import Failure
from trioproxy.simulator.text import generate_text, iterate_text

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class _CompletionBody(Body, kw_only=True):
    prompt: Prompt
    n_predict: Tokens | None = None


def _read(body: bytes) -> Asked:
    fields = decode(body, _CompletionBody)
    return Asked(
        texts=[text_of_prompt(fields.prompt)],
        model=fields.model,
        tokens=fields.n_predict,
        seed=fields.seed,
        stream=bool(fields.stream),
    )


class _Reply:
    def __init__(self, request: GenerationRequest) -> None:
        self._request = request

    def opening(self) -> bytes:
        return b""

    def tokens(self) -> Iterator[bytes]:
        before, between, after = cut_at_holes(
            event(
                {
                    "index": 0,
                    "content": HOLE,
                    "tokens": [],
                    "stop": False,
                    "id_slot": -1,
                    "tokens_predicted": HOLE,
                    "tokens_evaluated": self._request.prompt_tokens,
                }
            )
        )
        text = iterate_text(self._request.prompt, self._request.seed)
        for token, predicted in zip(text, count(1), strict=False):
            yield before + json_string(token) + between + b"%d" % predicted + after

    def ending(self) -> bytes:
        return event(self._end(""))

    def failure(self, failure: Failure) -> bytes:
        return event(_tell_error(failure))

    def whole(self) -> bytes:
        request = self._request
        text = generate_text(request.prompt, request.tokens, request.seed)
        return msgspec.json.encode(self._end("".join(text)))

    def _end(self, content: str) -> dict[str, Any]:
        request = self._request
        return {
            "index": 0,
            "content": content,
            "tokens": [],
            "id_slot": -1,
            "stop": True,
            "model": request.model,
            "tokens_predicted": request.tokens,
            "tokens_evaluated": request.prompt_tokens,
            "generation_settings": {
                "seed": request.seed,
                "n_predict": request.tokens,
                "stream": request.stream,
            },
            "prompt": request.prompt,
            "has_new_line": False,
            "truncated": False,
            "stop_type": "limit",
            "stopping_word": "",
            "tokens_cached": request.prompt_tokens + request.tokens - 1,
            "timings": {
                "cache_n": 0,
                **_timings("prompt", request.prompt_tokens, request.prompt_ns),
                **_timings("predicted", request.tokens, request.answer_ns),
            },
        }


def _timings(what: str, tokens: int, nanoseconds: int) -> dict[str, float]:
    milliseconds = nanoseconds / 1e6
    return {
        f"{what}_n": tokens,
        f"{what}_ms": milliseconds,
        f"{what}_per_token_ms": milliseconds / max(1, tokens),
        f"{what}_per_second": 1e3 / milliseconds * tokens,
    }


def _tell_error(failure: Failure) -> dict[str, Any]:
    fallback = "server_error" if failure.status >= 500 else "invalid_request_error"
    kind = _KINDS.get(failure.status, fallback)
    return {"error": {"code": failure.status, "message": failure.message, "type": kind}}


COMPLETION = Api(_read, _Reply, _tell_error)
