"""How long to wait before what has ended is started again."""

from __future__ import annotations

FIRST_SECONDS = 0.1
MOST_SECONDS = 10.0

WELL_SECONDS = 10.0
"""What has lived so long has not ended for what ended the one before it."""


class Pauses:
    """Each twice as long as the one before, up to :data:`MOST_SECONDS`."""

    def __init__(self) -> None:
        self._next = FIRST_SECONDS

    def after(self, lived: float) -> float:
        """The pause after one that has lived so many seconds."""
        if lived >= WELL_SECONDS:
            self._next = FIRST_SECONDS
        pause, self._next = self._next, min(2 * self._next, MOST_SECONDS)
        return pause
