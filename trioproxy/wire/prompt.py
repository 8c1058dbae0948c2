"""How much text a call brings, whatever the API."""

import math
from typing import Any, cast

import msgspec

_TEXTS = frozenset(
    {
        *("prompt", "suffix", "messages", "input", "system", "instructions"),
        *("content", "text", "thinking", "arguments", "output", "function", "tool_calls"),
    }
)
"""The fields that hold text, or what holds text, in all of the APIs."""


MOST_PARTS = 100_000
"""So many parts may a prompt have beyond a part for each character."""


class _Texts(msgspec.Struct):
    prompt: Any = None
    suffix: Any = None
    messages: Any = None
    input: Any = None
    system: Any = None
    instructions: Any = None


_texts = msgspec.json.Decoder(_Texts)


def measure_prompt(body: bytes, *, up_to: float = math.inf) -> int:
    """Return how many characters of text a request's body brings to the model; where that is more
    than ``up_to``, something that is more.

    Of a prompt that is told in tokens each counts as one. What is no text (images, sound) counts
    nothing, and neither do names, roles and tools. A body of very many parts without text is taken
    for more than ``up_to``: to look at all of them would take too long. For a body that `read_call`
    has read.
    """
    texts = _texts.decode(body)
    size, looked_at, left = 0, 0, list(msgspec.structs.astuple(texts))
    while left and size <= up_to:
        found = left.pop()
        looked_at += 1
        if looked_at > up_to + MOST_PARTS:
            return math.floor(up_to) + 1
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
