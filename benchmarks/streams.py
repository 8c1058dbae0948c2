"""A round of steady streams: many readers at one contender, looked at in a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.audience import Audience, Seen
from benchmarks.contenders import Contender
from benchmarks.processes import Process
from benchmarks.questions import Mode, Question, arrival_seconds
from benchmarks.steady import Steady, watch
from benchmarks.tables import Column

SPARE_SECONDS = 0.5
READER_SECONDS = 0.001
"""Per reader. Answers are so much longer than the window and what is before it, for readers may
come later than they should."""
MICRO, MILLI = 1e6, 1e3


@dataclass(frozen=True, kw_only=True)
class Streams:
    """What is read.

    Attributes:
        readers: how many there are.
        generations: that they ask for, dealt out in turn.
        rate: events per second of each stream.
        settle, seconds: see `benchmarks.steady.watch`.
        mode: how a proxy is to share what is asked for twice.
        transport, authority: see `benchmarks.transports.reader_maker`.
    """

    readers: int
    generations: int
    rate: float
    settle: float
    seconds: float
    mode: Mode
    transport: str = "http"
    authority: Path | None = None

    def question(self, prompt: str) -> Question:
        """What to ask so that the answer lasts as long as is looked at."""
        length = self.settle + self.seconds + SPARE_SECONDS + self.readers * READER_SECONDS
        return Question(
            prompt=prompt,
            tokens=max(1, round(length * self.rate)),
            rate=self.rate,
            ttft=arrival_seconds(self.readers),
            mode=self.mode,
        )

    def cases(
        self, contenders: Mapping[str, Contender], engine: Process
    ) -> dict[str, Callable[[int], Steady[Seen]]]:
        """A round of each contender, by name: given its number, it is measured."""
        return {
            name: partial(self.measure, contender, engine) for name, contender in contenders.items()
        }

    def measure(self, contender: Contender, engine: Process, number: int) -> Steady[Seen]:
        """Start the contender, and let the readers read; one round.

        Raises :exc:`OSError` or :exc:`RuntimeError` where a process does not answer or ends by
        itself, or the answers were over before the window was.
        """
        name = f"{contender.name} {number}"
        questions = [self.question(f"{name}, {index}") for index in range(self.generations)]
        with (
            contender.launch(engine.url) as server,
            contender.feed(server, engine, questions[0]),
        ):
            audience = Audience(
                host=server.host,
                port=server.port,
                askings=[contender.ask(question) for question in questions],
                readers=self.readers,
                tokens=questions[0].tokens,
                rate=self.rate,
                ttft=questions[0].ttft,
                shared=self.mode != "private",
                stays=self.mode != "live",
                transport=self.transport,
                authority=self.authority and str(self.authority),
            )
            servers = {"server": server, "engine": engine}
            steady = watch(audience, servers, Seen, settle=self.settle, seconds=self.seconds)
        if not steady.seen.events:
            raise RuntimeError("nothing came in the window")
        return steady


def cpu_per_event(round_: Steady[Seen]) -> float:
    """What an event cost the server, in microseconds."""
    return round_.cpu_seconds["server"] / round_.seen.events * MICRO


def losses(round_: Steady[Seen]) -> int:
    """Readers that were not sent all."""
    return round_.seen.lost


def _at(values: list[float], percent: int) -> float | None:
    return values[percent] * MILLI if values else None


COST = Column("CPU µs/event", cpu_per_event, ",.2f", is_compared=True)
EVENTS = Column[Steady[Seen]](
    "events/s", lambda round_: round_.seen.events / round_.seconds, ",.0f"
)
DELAYS = (
    Column[Steady[Seen]]("late p50, ms", lambda round_: _at(round_.seen.delays, 50)),
    Column[Steady[Seen]]("p99", lambda round_: _at(round_.seen.delays, 99)),
)
FIRSTS = (
    Column[Steady[Seen]]("at the first p99, ms", lambda round_: _at(round_.seen.leads, 99)),
    Column[Steady[Seen]]("last token, ms", lambda round_: round_.seen.last_late * MILLI),
)
LOST = Column[Steady[Seen]]("lost", losses, ",.0f")
"""A table of steady streams is made of these. Who is late, is so against the engine's schedule; at
the reader that has a token first it is so late as the server read it, at most."""
