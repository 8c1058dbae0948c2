"""Readers of steady streams, and what they saw in a window of it.

The harness says an `Audience`. When every reader has had its first event, the answer is `Ready`.
The harness looks at the servers, waits, looks again, and says which `Window` that was. When all
answers are over, or at once where nobody is to stay, the answer is what was `Seen`.
"""

from __future__ import annotations

import time

import msgspec

from benchmarks.conversation import Conversation, Ready, Window
from benchmarks.counting import EXTRA_CHUNKS, CountingReader
from benchmarks.delivery import NANOSECONDS, Delivery, find_schedule, observe
from benchmarks.distribution import percentiles
from benchmarks.readers import Loop
from benchmarks.transports import reader_maker

MAX_CONNECTING = 256
"""More at once, and the kernel's queue of a listener is full: who is dropped waits for a second."""
SPARE_SECONDS = 30.0
"""How much longer than its length an answer may take."""


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """As many readers of each asking at another server, who are not among those of whom it is told
    what they saw. Those that come first leave when the others are there; those that come behind
    them stay as long."""

    host: str
    port: int
    each: int
    come_first: bool


class Audience(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Who is to read what.

    Attributes:
        askings: what readers send, dealt out to them in turn; equal ones ask for one generation
            where the server shares.
        readers: how many there are.
        tokens, rate, ttft: of each answer: its length, its pace per second and the seconds before.
        shared: the readers of one asking read one generation, and have its schedule in common.
        stays: they read to the end; else they leave when they have been told the window.
    """

    host: str
    port: int
    askings: list[bytes]
    readers: int
    tokens: int
    rate: float
    ttft: float
    shared: bool = True
    stays: bool = True
    transport: str = "http"
    authority: str | None = None
    """Whose certificates are trusted: a file (PEM)."""
    elsewhere: Elsewhere | None = None

    @property
    def limit_seconds(self) -> float:
        """What everything may take."""
        return self.ttft + self.tokens / self.rate + SPARE_SECONDS


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the readers saw. Times in seconds, as percentiles, the least first; empty where there
    were none.

    Attributes:
        events: how many came in the window, to all of them.
        lost: readers that were not sent the whole answer, in time.
        delays, leads, gaps: see `benchmarks.delivery.Delivery`.
        last_late: how late the last token came to the reader that had it last.
    """

    events: int
    lost: int
    delays: list[float]
    leads: list[float]
    gaps: list[float]
    last_late: float


def attend(audience: Audience, harness: Conversation) -> None:
    """Read, and tell what was seen."""
    deadline = time.monotonic() + audience.limit_seconds
    here = _make_readers(audience, audience.readers)
    groups = [(here, audience.host, audience.port)]
    there: list[CountingReader] = []
    if (elsewhere := audience.elsewhere) is not None:
        there = _make_readers(audience, elsewhere.each * len(audience.askings))
        group = there, elsewhere.host, elsewhere.port
        groups.insert(0 if elsewhere.come_first else 1, group)
    readers = here + there
    with Loop() as loop:
        for group, host, port in groups:
            for start in range(0, len(group), MAX_CONNECTING):
                wave = group[start : start + MAX_CONNECTING]
                for reader in wave:
                    loop.connect(reader, host, port)
                loop.run_until_all(
                    wave, lambda reader: reader.has_asked or reader.is_done, deadline
                )
            loop.run_until_all(
                group, lambda reader: bool(reader.events) or reader.is_done, deadline
            )
        if elsewhere is not None and elsewhere.come_first:
            for reader in there:
                reader.leave()
        harness.say(Ready(sum(bool(reader.events) for reader in readers)))
        if audience.stays:
            loop.run_until_all(readers, lambda reader: reader.is_done, deadline)
        else:
            loop.wake_for(harness)
            loop.run(harness.has_spoken, deadline)
        window = harness.hear(Window, seconds=audience.limit_seconds)
    harness.say(_evaluate(audience, here, there, window))


def _make_readers(audience: Audience, number: int) -> list[CountingReader]:
    make = reader_maker(audience.transport, audience.authority)
    return [
        make(audience.askings[index % len(audience.askings)], audience.tokens + EXTRA_CHUNKS)
        for index in range(number)
    ]


def _evaluate(
    audience: Audience,
    readers: list[CountingReader],
    there: list[CountingReader],
    window: Window,
) -> Seen:
    delivery = Delivery()
    last_late = 0.0
    elsewhere = audience.elsewhere
    stays_there = audience.stays and not (elsewhere and elsewhere.come_first)
    step = len(audience.askings)
    groups = [readers[index::step] for index in range(step)]
    if not audience.shared:
        groups = [[reader] for reader in readers]
    for index, group in enumerate(groups):
        stamps = [reader.stamps for reader in group]
        others = [reader.stamps for reader in there[index::step]]
        schedule = find_schedule(stamps + others, audience.tokens, audience.rate)
        if schedule is None:
            continue
        opened, closed = window.opened / NANOSECONDS, window.closed / NANOSECONDS
        observe(stamps, schedule, (opened, closed), delivery)
        end = schedule.due_at(audience.tokens - 1)
        last_late = max(last_late, *(own[-2] / NANOSECONDS - end for own in stamps if own))
    return Seen(
        events=delivery.events,
        lost=sum(
            reader.events < (reader.enough if stays else 1)
            for group, stays in ((readers, audience.stays), (there, stays_there))
            for reader in group
        ),
        delays=percentiles(delivery.delays),
        leads=percentiles(delivery.leads),
        gaps=percentiles(delivery.gaps),
        last_late=last_late,
    )
