"""OpenAI's Responses API.

The shapes are those of the API reference: the response
(https://platform.openai.com/docs/api-reference/responses/object) and its events
(https://platform.openai.com/docs/api-reference/responses-streaming). Two things are not as OpenAI
has them: an answer that ends at its last token is `completed`, as llama.cpp says, not `incomplete`;
and the error event tells its error twice, flat as the reference has it and nested as the API sends
it (https://github.com/openai/openai-dotnet/issues/881). The official clients raise for the nested
one.
"""

import secrets
import time
from collections.abc import Iterator
from itertools import count, repeat
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trioproxy.simulator.apis.bodies import Body, Content, Tokens, decode, instructed, text_of
from trioproxy.simulator.apis.frames import HOLE, cut_at_holes, json_string, typed_event
from trioproxy.simulator.apis.openai import tell_error
from trioproxy.simulator.apis.protocol import Api, Asked, GenerationRequest
from trioproxy.simulator.refusal import Failure
from trioproxy.simulator.text import generate_text, iterate_text

_END = b"}\n\n"  # of every event


class _Item(msgspec.Struct):
    """A message of the input; other items of a conversation, such as tools' results, have no text.

    The role is nothing to the engine.
    """

    content: Content = None


class _ResponsesBody(Body, kw_only=True):
    input: str | Annotated[list[_Item], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None


def _read(body: bytes) -> Asked:
    fields = decode(body, _ResponsesBody)
    said = fields.input
    texts = [said] if isinstance(said, str) else [text_of(item.content) for item in said]
    return Asked(
        texts=instructed(fields.instructions, texts),
        model=fields.model,
        tokens=fields.max_output_tokens,
        seed=fields.seed,
        stream=bool(fields.stream),
    )


class _Reply:
    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._response_id = "resp_" + secrets.token_hex(24)
        self._item_id = "msg_" + secrets.token_hex(24)
        self._created_at = int(time.time())
        self._numbers = _count_events() if request.numbered else repeat(b"")

    def opening(self) -> bytes:
        begun = self._response("in_progress", output=[], usage=None)
        return b"".join(
            [
                self._event("response.created", response=begun),
                self._event("response.in_progress", response=begun),
                self._event(
                    "response.output_item.added",
                    output_index=0,
                    item=self._item("in_progress", content=[]),
                ),
                self._event("response.content_part.added", **self._place(), part=_part("")),
            ]
        )

    def tokens(self) -> Iterator[bytes]:
        kind = "response.output_text.delta"
        delta = typed_event({"type": kind, **self._place(), "delta": HOLE, "logprobs": []})
        before, after = cut_at_holes(delta.removesuffix(_END))
        numbers = self._numbers
        for token in iterate_text(self._request.prompt, self._request.seed):
            yield before + json_string(token) + after + next(numbers) + _END

    def ending(self) -> bytes:
        text = self._text()
        place = self._place()
        item = self._item("completed", content=[_part(text)])
        response = self._response("completed", output=[item], usage=self._usage())
        return b"".join(
            [
                self._event("response.output_text.done", **place, text=text, logprobs=[]),
                self._event("response.content_part.done", **place, part=_part(text)),
                self._event("response.output_item.done", output_index=0, item=item),
                self._event("response.completed", response=response),
            ]
        )

    def failure(self, failure: Failure) -> bytes:
        error = tell_error(failure)["error"]
        kind = error["type"]
        flat = {"code": kind, "message": failure.message, "param": failure.param}
        return self._event("error", **flat, error=error | {"code": kind})

    def whole(self) -> bytes:
        item = self._item("completed", content=[_part(self._text())])
        return msgspec.json.encode(self._response("completed", output=[item], usage=self._usage()))

    def _event(self, kind: str, **fields: object) -> bytes:
        frame = typed_event({"type": kind, **fields})
        return frame.removesuffix(_END) + next(self._numbers) + _END

    def _place(self) -> dict[str, Any]:
        """Tell which text an event is about: the only one."""
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _response(
        self, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {
            "id": self._response_id,
            "object": "response",
            "created_at": self._created_at,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._request.model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
            "metadata": {},
        }

    def _text(self) -> str:
        request = self._request
        return "".join(generate_text(request.prompt, request.tokens, request.seed))

    def _usage(self) -> dict[str, Any]:
        input_tokens, output_tokens = self._request.prompt_tokens, self._request.tokens
        return {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        }


def _count_events() -> Iterator[bytes]:
    return (b',"sequence_number":%d' % number for number in count())


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


RESPONSES = Api(_read, _Reply, tell_error)
