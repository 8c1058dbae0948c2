"""One reader of a node: what it has read, when, and how that ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise

import trio

from benchmarks.cluster.rig import NodeServer
from benchmarks.soak.exchange import open_exchange
from benchmarks.soak.questions import Question
from benchmarks.soak.reading import Reading, Violation

CUT = "cut"
"""How it ended for one whose node was killed."""

REFUSED = "refused"
"""And for one that was told so, by a status."""

LEFT = "left"

POLL_SECONDS = 0.005


@dataclass
class Reader:
    """A reader. Times are trio's; ``ending`` is as :class:`Reading` tells it, or one of those
    above, and None while it reads. ``violation`` is what should not have been."""

    question: Question
    node: NodeServer
    begun_at: float = field(default_factory=trio.current_time)
    ended_at: float | None = None
    generation_id: str = ""
    arrivals: list[float] = field(default_factory=list[float])
    ending: str | None = None
    violation: str | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def longest_gap(self) -> float:
        """Between two arrivals, in seconds."""
        return max((later - earlier for earlier, later in pairwise(self.arrivals)), default=0.0)

    async def run(self) -> None:
        """Read to the end, or until ``scope`` is cancelled."""
        process = self.node.process
        try:
            with self.scope:
                await self._read()
        except Violation as violation:
            was_killed = process is None or self.node.process is not process
            self.ending = CUT
            self.violation = None if was_killed else str(violation)
        if self.scope.cancelled_caught:
            self.ending = LEFT
        self.ended_at = trio.current_time()

    async def _read(self) -> None:
        question = self.question
        async with open_exchange(self.node.address) as exchange:
            headers = {"x-fanout": "replay", **question.headers}
            await exchange.send("POST", question.path, headers, question.body(stream=True))
            status = await exchange.read_head()
            if status != 200:
                self._note_refusal(status, await exchange.read_all())
                return
            self.generation_id = exchange.header("x-generation-id")
            reading = Reading(question, self.generation_id, cursor=0)
            while (data := await exchange.read()) is not None:
                before = reading.count
                reading.feed(data)
                self.arrivals += [trio.current_time()] * (reading.count - before)
            reading.close()
            self.ending = reading.ending

    def _note_refusal(self, status: int, body: bytes) -> None:
        code = json.loads(body)["error"]["code"]
        self.ending = REFUSED
        if status != 503:
            self.violation = f"status {status}, {code}"

    async def wait_events(self, number: int, within: float = 20.0) -> None:
        """Wait until so many events have come. Raises :exc:`RuntimeError` where they do not."""
        with trio.move_on_after(within):
            while len(self.arrivals) < number and self.ending is None:  # noqa: ASYNC110
                await trio.sleep(POLL_SECONDS)
        if len(self.arrivals) < number:
            raise RuntimeError(f"{len(self.arrivals)} of {number} events came: {self.ending}")

    async def wait_ended(self, within: float) -> float:
        """Wait until it has come to an end; when that was. Raises :exc:`RuntimeError`."""
        with trio.move_on_after(within):
            while self.ended_at is None:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(POLL_SECONDS)
        if self.ended_at is None:
            raise RuntimeError(f"a reader has not come to an end in {within:g} s")
        return self.ended_at
