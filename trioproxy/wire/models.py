"""Lists of models, as OpenAI's and Anthropic's APIs have them (``GET /v1/models``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

Model = dict[str, Any]
"""One entry of a list; its ``id`` is a string."""


class _List(msgspec.Struct):
    data: list[Model] = []


_lists = msgspec.json.Decoder(_List)


def read_models(body: bytes) -> list[Model]:
    """The entries of a list; none where the body is no list of models."""
    try:
        entries = _lists.decode(body).data
    except (ValueError, RecursionError):
        return []
    return [entry for entry in entries if isinstance(entry.get("id"), str)]


def unlisted_model(model: str) -> Model:
    """An entry for a model of which no list tells more than its name."""
    return {"id": model, "object": "model", "created": 0, "owned_by": "trioproxy"}


def models_body(models: Iterable[Model]) -> bytes:
    """A list that clients of either API can read."""
    data: Sequence[Model] = list(models)
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return msgspec.json.encode(
        {"object": "list", "data": data, "has_more": False, "first_id": first, "last_id": last}
    )
