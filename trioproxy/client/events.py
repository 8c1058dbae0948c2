"""What a stream gives its reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from trioproxy.wire import Dialect, Message


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a generation. ``seq`` is dense and starts at 1; ``data`` is as the engine sent
    it, ``name`` is None where it named none."""

    generation_id: str
    seq: int
    name: str | None
    data: bytes
    dialect: Dialect = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The generated text that it carries, "" if none."""
        name = None if self.name is None else self.name.encode()
        return self.dialect.text(Message(name, self.data))

    def json(self) -> Any:
        """Its data as JSON. Raises :exc:`ValueError` where it is none (``[DONE]``)."""
        return msgspec.json.decode(self.data)
