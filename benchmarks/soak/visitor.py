"""One reader among others: it asks, reads, checks what it reads, and may come back."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import trio

from benchmarks.soak.exchange import Exchange, open_exchange
from benchmarks.soak.questions import CANCELLED, Question, draw_question
from benchmarks.soak.reading import Reading, Violation

Mode = Literal["replay", "live", "private"]

RECENT_QUESTIONS = 6
LATE = 0.7
"""The part of the visits that ask what somebody has asked recently, to join its answer."""

MARGIN_SECONDS = 1.0
"""How far a promise about time is not held against a busy machine."""


class Over(Exception):
    """There is nothing to be read, and rightly so: the visit ends here."""


@dataclass
class Commons:
    """What all readers of a crowd know.

    Attributes:
        address: the proxy's host and port.
        seed: it stands in each prompt, so that no two soaks ask the same.
        retention: seconds for which the proxy keeps an ended generation.
        recent: the questions that were asked last.
        stopped: the ids of the generations that somebody has stopped, which may end so.
        asked: how many questions there were.
        events: how many events were read.
    """

    address: tuple[str, int]
    seed: int
    retention: float
    recent: deque[Question] = field(default_factory=lambda: deque(maxlen=RECENT_QUESTIONS))
    stopped: set[str] = field(default_factory=set[str])
    asked: int = 0
    events: int = 0

    def new_question(self, random: Random) -> Question:
        """Draw a question that nobody has asked yet; others will ask it too."""
        question = draw_question(random, self.next_prompt())
        self.recent.append(question)
        return question

    def next_prompt(self) -> str:
        """A prompt that nobody has used yet."""
        self.asked += 1
        return f"soak {self.seed}, question {self.asked}"


class Stream:
    """The answer to one request for a stream, as far as it was read. Made by :class:`Visitor`."""

    def __init__(
        self,
        exchange: Exchange,
        question: Question,
        reading: Reading,
        commons: Commons,
        *,
        asked_at: float,
        endings: frozenset[str],
    ) -> None:
        self.exchange = exchange
        self.question = question
        self.reading = reading
        self.asked_at = asked_at
        self._commons = commons
        self._endings = endings

    async def read(self, events: int) -> None:
        """Read so many more events, or to the end where there are fewer. Raises
        :class:`Violation`."""
        last = self.reading.count + events
        while self.reading.count < last and await self._read_once():
            pass

    async def read_to_end(self) -> None:
        """Read to the end of the body. Raises :class:`Violation`, for a wrong end too."""
        while await self._read_once():
            pass

    async def _read_once(self) -> bool:
        data = await self.exchange.read()
        if data is None:
            self.reading.close()
            self._check_ending()
            return False
        before = self.reading.count
        self.reading.feed(data)
        self._commons.events += self.reading.count - before
        return True

    def _check_ending(self) -> None:
        ending = self.reading.ending
        was_stopped = self.reading.generation_id in self._commons.stopped
        if ending not in self._endings and not (ending == CANCELLED and was_stopped):
            raise Violation(f"ended as {ending!r}, expected {' or '.join(sorted(self._endings))}")


class Visitor:
    """One reader. Everything that is drawn is drawn from ``random``."""

    def __init__(self, commons: Commons, random: Random) -> None:
        self.commons = commons
        self.random = random

    def pick_question(self) -> Question:
        """A question that somebody has asked recently, or a new one."""
        if self.commons.recent and self.random.random() < LATE:
            return self.random.choice(self.commons.recent)
        return self.commons.new_question(self.random)

    def pick_mode(self) -> Mode:
        return self.random.choices(("replay", "live", "private"), (6, 1, 1))[0]

    @asynccontextmanager
    async def ask(
        self, question: Question, mode: Mode = "replay", *, receive_buffer: int | None = None
    ) -> AsyncGenerator[Stream]:
        """Ask for a stream, and hand it over once its head has come.

        Raises :class:`Over` where the engine was to refuse and has, :class:`Violation` for any
        other status than expected.
        """
        asked_at = trio.current_time()
        async with open_exchange(self.commons.address, receive_buffer=receive_buffer) as exchange:
            headers = {"x-fanout": mode, **question.headers}
            await exchange.send("POST", question.path, headers, question.body(stream=True))
            status = await exchange.read_head()
            if question.refusal is not None:
                await exchange.read_all()
                _require(status == question.refusal, f"status {status}, not {question.refusal}")
                raise Over
            _require(status == 200, f"status {status}")
            cursor = None if mode == "live" else 0
            yield self._stream(exchange, question, cursor, asked_at, frozenset({question.ending}))

    @asynccontextmanager
    async def resume(self, left: Stream, *, away: float) -> AsyncGenerator[Stream]:
        """Ask again from where ``left`` was left ``away`` seconds ago.

        Within its linger a generation must be there still; later it may have been abandoned, and
        once its retention is over it may be gone: then :class:`Over` is raised.
        """
        question, reading = left.question, left.reading
        if reading.is_over or not reading.cursor:
            raise Over
        async with open_exchange(self.commons.address) as exchange:
            last_id = f"{reading.generation_id}:{reading.cursor}"
            headers = {"last-event-id": last_id, "x-fanout": "replay", **question.headers}
            await exchange.send("POST", question.path, headers, question.body(stream=True))
            status = await exchange.read_head()
            if status == 410:
                code = json.loads(await exchange.read_all())["error"]["code"]
                age = trio.current_time() - left.asked_at
                may_be_gone = age > self.commons.retention - MARGIN_SECONDS
                _require(
                    code == "generation_expired" and may_be_gone,
                    f"410 {code} for {last_id}, {age:.1f} s after it was asked for",
                )
                raise Over
            _require(status == 200, f"status {status} for {last_id}")
            endings = {question.ending}
            if away > question.linger - MARGIN_SECONDS:
                endings.add(CANCELLED)
            yield self._stream(
                exchange, question, reading.cursor, left.asked_at, frozenset(endings)
            )

    @asynccontextmanager
    async def read_created(self, question: Question, path: str) -> AsyncGenerator[Stream]:
        """Read the generation at this path from its start; it has lingered for nobody so far."""
        asked_at = trio.current_time()
        async with open_exchange(self.commons.address) as exchange:
            await exchange.send("GET", f"{path}/events", {}, b"")
            status = await exchange.read_head()
            _require(status == 200, f"status {status} for {path}/events")
            yield self._stream(exchange, question, 0, asked_at, frozenset({question.ending}))

    async def call(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, bytes]:
        """Make a call that is answered at once or whole; return its status and body."""
        async with open_exchange(self.commons.address) as exchange:
            await exchange.send(method, path, headers, body)
            return await exchange.read_head(), await exchange.read_all()

    def _stream(
        self,
        exchange: Exchange,
        question: Question,
        cursor: int | None,
        asked_at: float,
        endings: frozenset[str],
    ) -> Stream:
        generation_id = exchange.header("x-generation-id")
        _require(bool(generation_id), "an answer without X-Generation-Id")
        reading = Reading(question, generation_id, cursor=cursor)
        return Stream(exchange, question, reading, self.commons, asked_at=asked_at, endings=endings)


def _require(holds: bool, violation: str) -> None:
    if not holds:
        raise Violation(violation)
