"""Clients that ask one short question after the other, and how many answers they had in a window.

The harness says a `Churn`. When every client has had an answer, `Ready` is said. The harness looks
at the servers, waits, looks again, and says which `Window` that was; then all leave, and the answer
is what was `Answered`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import msgspec

from benchmarks.conversation import Conversation, Ready, Window
from benchmarks.counting import CountingReader
from benchmarks.distribution import percentiles
from benchmarks.readers import LAST_CHUNK, READ_BYTES, Loop

NANOSECONDS = 1e9
READY_SECONDS = 60.0


class Churn(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Who is to ask what.

    Attributes:
        asking: what is sent, again and again.
        events: what each answer has.
        clients: how many ask at a time.
        keeps: a client asks its next question on the same connection; else each on a new one.
        seconds: what it all may take, once every client has had an answer.
    """

    host: str
    port: int
    asking: bytes
    events: int
    clients: int
    keeps: bool
    seconds: float


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What the clients saw.

    Attributes:
        answers: how many came, whole, in the window.
        failed: answers, at any time, that were not whole, and connections that broke.
        seconds: what an answer of the window took, from before the connection, where it was new;
            percentiles, the least first.
    """

    answers: int
    failed: int
    seconds: list[float]


class Visitor(CountingReader):
    """Asks, reads the answer to its end, and tells; it may be let ask again.

    ``on_end`` is called when the answer or the connection is over, and returns whether the question
    is to be asked again on the connection.
    """

    def __init__(self, asking: bytes, events: int, on_end: Callable[[Visitor], bool]) -> None:
        super().__init__(asking, enough=sys.maxsize)  # it is the end of the answer that counts
        self.began = time.time_ns()
        self.is_whole = False
        self._events = events
        self._on_end = on_end
        self._last = b""

    def read(self, max_bytes: int = READ_BYTES) -> None:
        """Count what has come; at the end of the answer ask again or leave."""
        super().read(max_bytes)
        if self.has_ended:
            self._on_end(self)

    def take(self, data: bytes) -> None:
        """Take in what was read."""
        super().take(data)
        self._last = (self._last + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
        if self._last != LAST_CHUNK:
            return
        self.is_whole = self.events == self._events
        if not self._on_end(self):
            self.leave()
            return
        self.began, self.is_whole, self.events, self._last = time.time_ns(), False, 0, b""
        self.ask()


class Crowd:
    """The clients, and the answers that they had: when each ended, and the seconds that it took."""

    def __init__(self, churn: Churn, loop: Loop) -> None:
        self.answers: list[tuple[int, float]] = []
        self.failed = 0
        self.served: set[int] = set()
        self._churn = churn
        self._loop = loop

    def come(self, client: int) -> None:
        """Let a client connect and ask."""
        churn = self._churn
        visitor = Visitor(churn.asking, churn.events, partial(self._answer, client))
        self._loop.connect(visitor, churn.host, churn.port)

    def _answer(self, client: int, visitor: Visitor) -> bool:
        if visitor.is_whole:
            now = time.time_ns()
            self.answers.append((now, (now - visitor.began) / NANOSECONDS))
            self.served.add(client)
        else:
            self.failed += 1
        stays = self._churn.keeps and visitor.is_whole
        if not stays:
            self._loop.at(0, partial(self.come, client))
        return stays


def act(churn: Churn, harness: Conversation) -> None:
    """Ask, and tell what came of it."""
    with Loop() as loop:
        loop.wake_for(harness)
        crowd = Crowd(churn, loop)
        for client in range(churn.clients):
            crowd.come(client)
        loop.run(lambda: len(crowd.served) == churn.clients, time.monotonic() + READY_SECONDS)
        harness.say(Ready(len(crowd.served)))
        loop.run(harness.has_spoken, time.monotonic() + churn.seconds)
        window = harness.hear(Window, seconds=churn.seconds)
    inside = [seconds for at, seconds in crowd.answers if window.opened <= at < window.closed]
    harness.say(Answered(answers=len(inside), failed=crowd.failed, seconds=percentiles(inside)))
