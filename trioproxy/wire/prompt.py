"""How much text a call brings, whatever the API."""

from typing import Any, cast

import msgspec

_TEXTS = frozenset(
    {
        *("prompt", "suffix", "messages", "input", "system", "instructions"),
        *("content", "text", "thinking", "arguments", "output", "function", "tool_calls"),
    }
)
"""The fields that hold text, or what holds text, in all of the APIs."""


class _Texts(msgspec.Struct):
    prompt: Any = None
    suffix: Any = None
    messages: Any = None
    input: Any = None
    system: Any = None
    instructions: Any = None


_texts = msgspec.json.Decoder(_Texts)


def measure_prompt(body: bytes) -> int:
    """Return how many characters of text a request's body brings to the model.

    Of a prompt that is told in tokens each counts as one. What is no text (images, sound) counts
    nothing, and neither do names, roles and tools. For a body that `read_call` has read.
    """
    texts = _texts.decode(body)
    size, left = 0, list(msgspec.structs.astuple(texts))
    while left:
        found = left.pop()
        match found:
            case str():
                size += len(found)
            case list():
                left += cast("list[Any]", found)
            case dict():
                part = cast("dict[str, Any]", found)
                left += [part[field] for field in _TEXTS & part.keys()]
            case bool() | None:
                pass
            case _:
                size += 1
    return size
