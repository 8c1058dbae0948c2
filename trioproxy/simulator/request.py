"""What a request asks of the engine: the fields of its body, the switches in its headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from trioproxy.simulator.engine import EngineSettings
from trioproxy.simulator.refusal import Refusal

COMPLETIONS = "/v1/completions"
CHAT_COMPLETIONS = "/v1/chat/completions"

Breakage: TypeAlias = Literal["mid", "truncate", "cut", "stall"]

_MAX_TOKENS = 1_000_000  # of all choices of a request together
_SWITCH_PREFIX = "x-sim-"

_Tokens: TypeAlias = Annotated[int, Meta(ge=1, le=_MAX_TOKENS)]
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


@dataclass(frozen=True)
class GenerationRequest:
    """A generation call, understood: the engine's settings, the body and the switches in one.

    Attributes:
        chat: whether the answer has the shape of chat completions.
        model: the name that the answer repeats.
        prompt: what the tokens are a function of: the prompt, or the messages' contents joined by
            LF.
        seed: the seed of the first choice; each further choice's is one more.
        choices: how many texts are asked for (`n`).
        tokens: tokens per choice, 1 or more.
        stream: whether the answer is an event stream.
        include_usage: whether the stream ends with a usage chunk.
        rate, ttft: as in `EngineSettings`.
        fail: how the answer is to break, or None.
    """

    chat: bool
    model: str
    prompt: str
    seed: int
    choices: int
    tokens: int
    stream: bool
    include_usage: bool
    rate: float
    ttft: float
    fail: Breakage | None


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Body(msgspec.Struct, kw_only=True):
    model: str | None = None
    max_tokens: _Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _CompletionBody(_Body, kw_only=True):
    prompt: str | list[str | int]


class _Part(msgspec.Struct):
    text: str = ""


class _ChatMessage(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _ChatBody(_Body, kw_only=True):
    messages: Annotated[list[_ChatMessage], Meta(min_length=1)]
    max_completion_tokens: _Tokens | None = None


class _Switches(
    msgspec.Struct,
    forbid_unknown_fields=True,
    rename=lambda name: _SWITCH_PREFIX + name.replace("_", "-"),
):
    fail: Literal["before", Breakage] | None = None
    rate: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    ttft: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    tokens: _Tokens | None = None
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    retry_after: Annotated[str, Meta(pattern="^[ -~]*$")] | None = None


def parse_generation(
    path: str, headers: Mapping[str, str], body: bytes, settings: EngineSettings
) -> GenerationRequest:
    """Return what a POST to `COMPLETIONS` or `CHAT_COMPLETIONS` asks for.

    Header names are in lower case. Raises `Refusal`: 400 for a body or a switch that cannot be
    understood, with the field or header as its `param`, and whatever the switches ask for.
    """
    if path == CHAT_COMPLETIONS:
        chat_body = _decode(body, _ChatBody)
        prompt = "\n".join(_text_of(message.content) for message in chat_body.messages)
        max_tokens = chat_body.max_completion_tokens or chat_body.max_tokens
        common: _Body = chat_body
    else:
        completion_body = _decode(body, _CompletionBody)
        prompt = _text_of_prompt(completion_body.prompt)
        max_tokens = completion_body.max_tokens
        common = completion_body
    switches = _parse_switches(headers)
    tokens = switches.tokens or max_tokens or settings.tokens
    choices = common.n or 1
    if tokens * choices > _MAX_TOKENS:
        raise Refusal(400, f"more than {_MAX_TOKENS} tokens are asked for", param="max_tokens")
    if switches.status is not None or switches.fail == "before":
        retry_after = switches.retry_after
        raise Refusal(
            switches.status or 500,
            "a failure that the request asked for",
            headers={} if retry_after is None else {"retry-after": retry_after},
        )
    return GenerationRequest(
        chat=path == CHAT_COMPLETIONS,
        model=common.model or settings.model,
        prompt=prompt,
        seed=common.seed or 0,
        choices=choices,
        tokens=tokens,
        stream=bool(common.stream),
        include_usage=bool(common.stream_options and common.stream_options.include_usage),
        rate=settings.rate if switches.rate is None else switches.rate,
        ttft=settings.ttft if switches.ttft is None else switches.ttft,
        fail=switches.fail,
    )


def last_text(path: str, body: bytes) -> str:
    """Return the text that names a call in a record: the prompt, or a chat's last message.

    It is "" where the body cannot be understood.
    """
    try:
        if path == CHAT_COMPLETIONS:
            return _text_of(_decode(body, _ChatBody).messages[-1].content)
        return _text_of_prompt(_decode(body, _CompletionBody).prompt)
    except Refusal:
        return ""


def _decode(body: bytes, struct: type[_Struct]) -> _Struct:
    try:
        return msgspec.json.decode(body, type=struct)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_request(str(error)) from error


def _parse_switches(headers: Mapping[str, str]) -> _Switches:
    switches = {name: value for name, value in headers.items() if name.startswith(_SWITCH_PREFIX)}
    try:
        return msgspec.convert(switches, _Switches, strict=False)
    except msgspec.ValidationError as error:
        raise _bad_request(str(error)) from error


def _bad_request(reason: str) -> Refusal:
    # msgspec tells the place as "at `$.max_tokens`"; at the top level, "field `prompt`" alone.
    place = re.search(r"`\$\.([\w-]+)", reason) or re.search(r"field `([\w-]+)`", reason)
    return Refusal(400, reason, param=place[1] if place else None)


def _text_of(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""


def _text_of_prompt(prompt: str | list[str | int]) -> str:
    """Return a prompt's text; a list is one prompt too, of strings and of numbered tokens."""
    if isinstance(prompt, str):
        return prompt
    return "".join(part if isinstance(part, str) else f" {part}" for part in prompt)
