"""When an upstream that fails is left alone, and when it is tried again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import trio

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A call, as its breaker knows it: which of its states it was begun in, counted."""

    number: int


class Breaker:
    """Closed while calls succeed. After ``failures`` in a row it is open for ``seconds``: no call
    is made. Then it is half-open: one call is, and what becomes of it closes or opens it again; if
    nothing does for as long, another is made.

    A result counts only if its call was begun in the same state: what one comes to that was made
    long ago tells nothing of now.
    """

    def __init__(self, failures: float = math.inf, seconds: float = 0.0) -> None:
        self.failures = failures
        self.seconds = seconds
        self._failed = 0
        self._open_until = -math.inf
        self._tried_until = -math.inf
        self._number = 0
        self._trial: Turn | None = None

    @property
    def can_open(self) -> bool:
        """Whether anything is made of what calls come to."""
        return self.failures < math.inf

    @property
    def state(self) -> State:
        if self._failed < self.failures:
            return "closed"
        return "open" if trio.current_time() < self._open_until else "half-open"

    @property
    def allows(self) -> bool:
        """Whether a call may be made now."""
        state = self.state
        is_tried = trio.current_time() < self._tried_until
        return state == "closed" or (state == "half-open" and not is_tried)

    @property
    def remaining(self) -> float:
        """Seconds until a call may be made, as far as they are known; 0 if one may."""
        return max(0.0, self._open_until - trio.current_time()) if self.state == "open" else 0.0

    def begin(self) -> Turn:
        """A call is made. Returns its turn, to be told with what becomes of it."""
        turn = Turn(self._number)
        if self.state == "half-open":
            self._trial = turn
            self._tried_until = trio.current_time() + self.seconds
        return turn

    def abandon(self, turn: Turn) -> None:
        """Nothing has become of it: its client has left."""
        if turn is self._trial:  # and not one that had its time: another is made since
            self._tried_until = -math.inf

    def succeed(self, turn: Turn) -> None:
        """It was answered."""
        if turn.number == self._number:
            if self._failed >= self.failures:
                self._number += 1
            self._failed = 0
            self._tried_until = -math.inf

    def fail(self, turn: Turn) -> None:
        """It was not, and that was the upstream's fault."""
        if turn.number != self._number:
            return
        self._failed += 1
        if self._failed >= self.failures:
            self._number += 1
            self._open_until = trio.current_time() + self.seconds
            self._tried_until = -math.inf
