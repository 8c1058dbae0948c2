"""A reader that only counts: so light that fifty thousand events a second are no work for it.

What it keeps of a read is when that was, and how many events had come by then. An event is known by
a word that every chunk of an answer has in it once, in whatever framing it comes.
"""

from __future__ import annotations

import time
from array import array

from benchmarks.readers import Reader

MARKER = b"chat.completion.chunk"
"""The value of `object` in a chunk (https://platform.openai.com/docs/api-reference/chat-streaming);
no other data of an answer has it."""

EXTRA_CHUNKS = 2
"""Beside its tokens an answer has a chunk for the role, before them, and one for the reason of its
end."""


class CountingReader(Reader):
    """Asks, and counts events until there are ``enough``; then it leaves.

    Attributes:
        stamps: for each read that brought events, the ``time.time_ns()`` and, after it, how many
            had come by then.
        bytes: how many came.
        enough: with how many events the answer is whole.
    """

    def __init__(self, asking: bytes, enough: int) -> None:
        super().__init__(asking)
        self.stamps = array("q")
        self.bytes = 0
        self.enough = enough

    def take(self, data: bytes) -> None:
        """Count what was read, and leave if that was all."""
        self.bytes += len(data)
        data = self._tail + data
        self._tail = data[1 - len(MARKER) :]  # too short to be counted again
        if events := data.count(MARKER):
            self.events += events
            self.stamps.append(time.time_ns())
            self.stamps.append(self.events)
            if self.events >= self.enough:
                self.leave()
