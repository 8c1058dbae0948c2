"""The clients of a storm, and the verbs in which a pattern is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from random import Random

from benchmarks.answers import Answer, understand
from benchmarks.readers import Loop, Reader, request
from benchmarks.storm.plan import Plan

LIMIT_SECONDS = 30.0
"""How long a crowd waits for anything, beyond the time that an answer takes."""

MakeReader = Callable[[bytes], Reader]


class Client:
    """Somebody who wants one generation, on one connection after the other.

    Attributes:
        generation: its number.
        visits: a reader for each connection, oldest first.
        is_late: it had not been sent in time what its pattern waited for.
    """

    def __init__(self, generation: int, prompt: str) -> None:
        self.generation = generation
        self.prompt = prompt
        self.visits: list[Reader] = []
        self.is_late = False

    @property
    def reader(self) -> Reader:
        """The connection that it made last."""
        return self.visits[-1]

    def last_event_id(self) -> str | None:
        """The id of the last event that it read, on whatever connection; None without one."""
        for reader in reversed(self.visits):
            for event in reversed(understand(reader.pieces).events):
                if event.id is not None:
                    return event.id
        return None

    def answers(self) -> list[Answer]:
        """What it was sent, on one connection after the other."""
        return [understand(reader.pieces) for reader in self.visits]


class Crowd:
    """All clients, in the loop that reads for them. ``random`` is where all chance comes from.

    What waits, waits a bounded time. Then the storm goes on, and who has not got there is late.
    """

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.clients = [
            Client(generation, prompt)
            for generation, prompt in zip(plan.generations, plan.prompts, strict=True)
        ]
        self.seconds = plan.seconds
        self.tokens = plan.tokens
        self.random = Random(plan.seed)
        self._plan = plan
        self._loop = loop

    def connect(self, clients: Iterable[Client], make: MakeReader = Reader) -> None:
        """Let each ask on a new connection, for what comes after the last event that it read."""
        for client in clients:
            headers = dict(self._plan.headers)
            if (last := client.last_event_id()) is not None:
                headers["Last-Event-ID"] = last
            reader = make(request(client.prompt, self._plan.tokens, headers))
            client.visits.append(reader)
            self._loop.connect(reader, self._plan.host, self._plan.port)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call the action so many seconds from now, while the crowd waits."""
        self._loop.at(time.monotonic() + seconds, action)

    def stay(self, seconds: float) -> None:
        """Read whatever comes, for so long."""
        self._loop.run(lambda: False, time.monotonic() + seconds)

    def wait_asked(self, clients: Sequence[Client]) -> None:
        """Wait until each has sent its request."""
        self._wait(clients, lambda client: client.reader.has_asked)

    def wait_events(self, clients: Sequence[Client], events: int) -> None:
        """Wait until each has read so many events on its connection."""
        self._wait(clients, lambda client: client.reader.events >= events)

    def wait_done(self, clients: Sequence[Client]) -> None:
        """Wait until each has left, or has come to the end of its answer."""
        self._wait(clients, lambda client: client.reader.is_done)

    def wait_answered(self, clients: Sequence[Client], seconds: float) -> None:
        """Wait until each has read something, if only a head, for so long at most. Nobody is late:
        a proxy may keep the head back until there is a token."""
        self._run_until_all(clients, lambda client: bool(client.reader.pieces), seconds)

    def _wait(self, clients: Sequence[Client], is_there: Callable[[Client], bool]) -> None:
        self._run_until_all(
            clients,
            # One whose connection has ended will not get there.
            lambda client: client.reader.is_done or is_there(client),
            self.seconds + LIMIT_SECONDS,
        )
        for client in clients:
            client.is_late |= not is_there(client)

    def _run_until_all(
        self, clients: Sequence[Client], is_there: Callable[[Client], bool], seconds: float
    ) -> None:
        self._loop.run_until_all(clients, is_there, time.monotonic() + seconds)
