"""The memory that all transcripts of a hub have together."""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """The memory that all transcripts of a hub have together.

    ``reclaim`` frees what is only retained, oldest first, one transcript a call; it returns False
    when nothing is left to free. What is live pays for itself: a transcript that grows past the
    budget trims its own head.
    """

    def __init__(self, max_bytes: int, reclaim: Callable[[], bool]) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self._reclaim = reclaim

    def holds(self, cost: int = 0) -> bool:
        """Whether ``cost`` more bytes fit."""
        return self.used + cost <= self.max_bytes

    def relieve(self, cost: int = 0) -> None:
        """Free retained transcripts until ``cost`` more bytes fit, or none is left."""
        while not self.holds(cost) and self._reclaim():
            pass
