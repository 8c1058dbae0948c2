"""How bodies are read, and the fields that several APIs have alike."""

import re
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from trioproxy.simulator.refusal import Refusal

MAX_TOKENS = 1_000_000
"""Of all choices of a request together."""

Tokens: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Body(msgspec.Struct, kw_only=True):
    """What a body of any API may have; fields that the engine does not know are passed over."""

    model: str | None = None
    seed: int | None = None
    stream: bool | None = None


class Part(msgspec.Struct):
    """A part of a message; one that is no text has none."""

    text: str = ""


Content: TypeAlias = str | list[Part] | None
Prompt: TypeAlias = str | list[str | int]


class Turn(msgspec.Struct):
    """One message of a conversation."""

    role: str
    content: Content = None


Conversation: TypeAlias = Annotated[list[Turn], Meta(min_length=1)]


def decode(body: bytes, struct: type[_Struct]) -> _Struct:
    """Return the body as this struct. Raises `Refusal` (400), which names the field at fault."""
    try:
        return msgspec.json.decode(body, type=struct)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(str(error)) from error


def bad_request(reason: str) -> Refusal:
    """Return the refusal of what msgspec could not convert, for this reason."""
    # It tells the place as "at `$.max_tokens`"; at the top level, "field `prompt`" alone.
    place = re.search(r"`\$\.([\w-]+)", reason) or re.search(r"field `([\w-]+)`", reason)
    return Refusal(400, reason, param=place[1] if place else None)


def text_of(content: Content) -> str:
    """Return a message's text, its parts joined."""
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""


def text_of_prompt(prompt: Prompt) -> str:
    """Return a prompt's text; a list is one prompt too, of strings and of numbered tokens."""
    if isinstance(prompt, str):
        return prompt
    return "".join(part if isinstance(part, str) else f" {part}" for part in prompt)


def instructed(instructions: Content, texts: list[str]) -> list[str]:
    """Return the texts behind their instructions, where there are some."""
    return texts if instructions is None else [text_of(instructions), *texts]
