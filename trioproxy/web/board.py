"""The board: a stream that tells how the generations fare that one may see.

It is for pages and terminals, and a generation itself, of a hub of its own: all who look on share
one, it can be cut and resumed, and with the last of them it ends.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple

import msgspec
import trio
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.fanout import (
    Arrival,
    CursorAhead,
    ExpiredGeneration,
    Feed,
    Generation,
    Hub,
    Limits,
    Subscriber,
    UnknownGeneration,
)
from trioproxy.telemetry import timing_of
from trioproxy.web.asking import read_cursor
from trioproxy.web.caller import Caller
from trioproxy.web.calls import Calls
from trioproxy.web.connection import ProxyRequest, current_request
from trioproxy.web.generations import describe, is_of_cluster
from trioproxy.web.responses import name_generation
from trioproxy.web.streaming import Streams, head_of_stream
from trioproxy.web.voice import RESOURCE_VOICE
from trioproxy.wire import OPENAI_COMPLETIONS

PERIOD, WIDE_PERIOD = 0.5, 1.0
"""Seconds between two looks at what has changed, at this node or at all."""

REMIND = 10
"""After so many looks the totals are told though they are what they were: for who came late."""

LINGER = 10.0
"""Who comes back so soon resumes."""

LIMITS = Limits(max_transcript_bytes=1024 * 1024, max_hub_bytes=64 * 1024 * 1024, retention=LINGER)


class Sight(NamedTuple):
    """Whose generations are looked at: those of a tenant or all, of this node or of all."""

    tenant: str
    is_admin: bool
    is_wide: bool


class Seen(NamedTuple):
    """A generation at one look. One that ``is_over`` changes no more."""

    id: str
    is_over: bool
    describe: Callable[[], Mapping[str, object]]


Look = tuple[Sequence[Seen], Mapping[str, object]]
"""What there is, and its totals."""


class Board:
    """``/v1/generations/events``. ``hub`` is the board's own, see :data:`LIMITS`."""

    def __init__(self, hub: Hub, calls: Calls, streams: Streams) -> None:
        self._hub = hub
        self._calls = calls
        self._streams = streams

    async def events(self) -> Response:
        """What changes from now on, or from an event on that is still held, at this node or
        (``?scope=cluster``) at all: an event ``generation`` for each that has changed, and
        ``totals``."""
        request = current_request()
        if request.method == "HEAD":
            return head_of_stream(RESOURCE_VOICE.framing)
        subscriber = self._subscribe(request)
        response = self._streams.respond(request, subscriber, OPENAI_COMPLETIONS, RESOURCE_VOICE)
        name_generation(response, subscriber.generation)
        return response

    def _subscribe(self, request: ProxyRequest) -> Subscriber:
        caller, cursor, is_wide = request.caller, read_cursor(request), is_of_cluster(request)
        sight = Sight(caller.tenant, caller.is_admin, is_wide and self._calls.node is not None)
        enter = request.exit_stack.enter_context
        if cursor is not None and cursor.generation_id is not None:
            try:
                return enter(self._resume(sight, cursor.generation_id, cursor.seq))
            except (UnknownGeneration, ExpiredGeneration, CursorAhead):
                pass  # it is told afresh
        source = self._look_on(caller, sight)
        return enter(
            self._hub.join(sight, source, mode="live", linger=LINGER, tenant=caller.tenant)
        )

    def _resume(
        self, sight: Sight, generation_id: str, seq: int
    ) -> AbstractContextManager[Subscriber]:
        board = self._hub.get(generation_id)
        if board.key != sight or board.outcome is not None:
            raise UnknownGeneration(f"there is no generation {generation_id}")
        return self._hub.subscribe(generation_id, after=seq, linger=LINGER)

    @asynccontextmanager
    async def _look_on(self, caller: Caller, sight: Sight) -> AsyncGenerator[Feed]:
        """A source: how the generations fare that a caller may see."""
        if sight.is_wide:
            yield Changes(partial(self._look_wide, caller), WIDE_PERIOD)
        else:
            yield Changes(partial(self._look_here, caller), PERIOD)

    async def _look_here(self, caller: Caller) -> Look:
        generations = self._calls.all_of(caller)
        seen = [
            Seen(one.id, one.outcome is not None and not one.subscribers, partial(describe, one))
            for one in generations
        ]
        await trio.lowlevel.checkpoint()
        return seen, self._tell_totals(generations)

    async def _look_wide(self, caller: Caller) -> Look:
        told = await self._calls.survey(caller)
        assert told is not None, "there are other nodes, or there were none from the beginning"
        seen = [
            Seen(
                row["id"],
                row["outcome"] is not None and not row["subscribers"],
                lambda row=row: row,
            )
            for row in told.rows
        ]
        return seen, told.totals

    def _tell_totals(self, generations: Sequence[Generation]) -> dict[str, object]:
        running = [generation for generation in generations if generation.outcome is None]
        rates = [timing_of(generation).tokens_per_second or 0.0 for generation in running]
        timings = [timing_of(generation) for generation in generations]
        calls = [timing for timing in timings if not timing.generation.is_replica]
        return {
            "running": len(running),
            "subscribers": sum(generation.readers for generation in generations),
            "tokens_per_second": sum(rates),
            "upstream_calls": sum(timing.closed_at is None for timing in calls),
            "saved_calls": sum(timing.late_joins for timing in timings),
        }


class Changes:
    """A feed of what changes: each generation whose description is another than at the last look,
    and the totals, likewise. A ``look`` is taken every ``period`` seconds."""

    head = None

    def __init__(self, look: Callable[[], Awaitable[Look]], period: float) -> None:
        self._look = look
        self._period = period
        self._told: dict[str, bytes] = {}
        self._told_totals = b""
        self._looks = 0
        self._through: set[str] = set()

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival]]:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        """What has changed, once something has."""
        while True:
            await trio.sleep(self._period if self._looks else 0)
            if changes := self._compare(*await self._look()):
                return changes

    def _compare(self, seen: Sequence[Seen], told: Mapping[str, object]) -> list[Arrival]:
        changes = [
            Arrival(b"generation", row)
            for one in seen
            if (row := self._describe_anew(one)) is not None
        ]
        present = {one.id for one in seen}
        self._through &= present
        self._told = {key: row for key, row in self._told.items() if key in present}
        totals = msgspec.json.encode(told)
        self._looks += 1
        if totals != self._told_totals or self._looks % REMIND == 0:
            self._told_totals = totals
            changes.append(Arrival(b"totals", totals))
        return changes

    def _describe_anew(self, seen: Seen) -> bytes | None:
        """How it is now; None where that has been told."""
        if seen.is_over and seen.id in self._through:
            return None
        if seen.is_over:
            self._through.add(seen.id)
        else:
            self._through.discard(seen.id)
        row = msgspec.json.encode(seen.describe())
        if self._told.get(seen.id) == row:
            return None
        self._told[seen.id] = row
        return row
