"""Sinks: lent by who is caught up, written to from its cursor, and taken back when they refuse."""

from __future__ import annotations

import itertools
import re
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.source import ScriptedSource
from trioproxy.fanout import COMPLETED, Event, Evicted, Hub, Subscriber, failed, open_hub
from trioproxy.fanout.pump import FEW, WRITES_AT_ONCE

HEARTBEAT = b"~"
INTERVAL = 15.0


def render(generation_id: str, event: Event) -> bytes:
    return b"%d:%b;" % (event.seq, event.data.strip(b"[]"))


def wrap(frames: bytes) -> bytes:
    return b"[" + frames + b"]"


class ScriptedSink:
    """Takes everything, until it is told how many bytes it may take at most."""

    render = staticmethod(render)
    wrap = staticmethod(wrap)
    heartbeat = HEARTBEAT
    interval = INTERVAL

    def __init__(self) -> None:
        self.written = b""
        self.room: int | None = None
        self.writes = 0

    def write_nowait(self, data: bytes) -> int:
        self.writes += 1
        taken = len(data) if self.room is None else min(self.room, len(data))
        self.written += data[:taken]
        return taken


class Lender:
    """A subscriber's task: it reads what it must, and lends its sink for as long as it may."""

    def __init__(self, sink: ScriptedSink | None = None) -> None:
        self.sink = sink or ScriptedSink()
        self.read: list[int] = []
        self.subscriber: Subscriber

    async def run(
        self, hub: Hub, source: ScriptedSource, *, after: int | None = None, key: str = "key"
    ) -> None:
        with hub.join(key, source, after=after) as self.subscriber:
            while self.subscriber.end is None:
                while self.subscriber.is_current and self.sink.room is None:
                    await self.subscriber.lend(self.sink)
                batch = await anext(self.subscriber, None)
                if batch is not None:
                    self.read += [event.seq for event in batch.events]

    @property
    def seqs(self) -> list[int]:
        """What was written and what was read, in this order."""
        return [int(seq) for seq in re.findall(rb"(\d+):", self.sink.written)] + self.read


SOME = pytest.mark.parametrize("number", [1, FEW, FEW + 1, 3 * WRITES_AT_ONCE])


async def lend(
    nursery: trio.Nursery, hub: Hub, source: ScriptedSource, number: int
) -> list[Lender]:
    lenders = [Lender() for _ in range(number)]
    for lender in lenders:
        nursery.start_soon(lender.run, hub, source)
    await wait_all_tasks_blocked()
    return lenders


@SOME
async def test_what_comes_is_written_to_every_sink_once_and_in_order(number: int) -> None:
    source = ScriptedSource()
    async with open_hub() as hub, trio.open_nursery() as nursery:
        lenders = await lend(nursery, hub, source, number)
        for piece in (b"a", b"b"):
            source.arrive(piece, piece)
            await wait_all_tasks_blocked()
        source.complete(b"c")

    for lender in lenders:
        assert lender.sink.written == b"[1:a;2:a;][3:b;4:b;][5:c;6:DONE;]"
        assert (lender.read, lender.subscriber.end) == ([], COMPLETED)


@SOME
async def test_no_task_is_left_when_nothing_is_lent_any_more(number: int) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as stays:
            async with trio.open_nursery() as nursery:
                await lend(nursery, hub, source, number)
                nursery.cancel_scope.cancel()
            await wait_all_tasks_blocked()

            generation = stays.generation
            assert generation.pump.sinks == {}
            assert [task.name for task in generation._nursery.child_tasks] == [
                f"reader of {generation.id}"
            ]


@SOME
async def test_a_sink_that_refuses_is_taken_back_and_its_subscriber_reads_on(number: int) -> None:
    source = ScriptedSource()
    async with open_hub() as hub, trio.open_nursery() as nursery:
        lenders = await lend(nursery, hub, source, number)
        source.arrive(b"a")
        await wait_all_tasks_blocked()
        lenders[0].sink.room = 0
        source.arrive(b"b", b"c")
        await wait_all_tasks_blocked()

        assert lenders[0].subscriber not in lenders[0].subscriber.generation.pump.sinks
        assert lenders[0].read == [2, 3]
        lenders[0].sink.room = None
        source.complete(b"d")

    assert sorted(lenders[0].seqs) == [1, 2, 3, 4, 5]
    assert {tuple(lender.seqs) for lender in lenders[1:]} <= {(1, 2, 3, 4, 5)}


async def test_what_is_taken_in_part_counts_as_written_and_ends_the_loan() -> None:
    source = ScriptedSource()
    async with open_hub() as hub, trio.open_nursery() as nursery:
        [lender] = await lend(nursery, hub, source, 1)
        lender.sink.room = 3
        source.arrive(b"a", b"b")
        await wait_all_tasks_blocked()

        assert lender.sink.written == b"[1:"
        assert lender.subscriber.cursor == 2
        assert lender.subscriber.generation.pump.sinks == {}
        source.complete()

    assert lender.read == [3]


@SOME
async def test_silence_is_broken_by_heartbeats(number: int, autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub, trio.open_nursery() as nursery:
        lenders = await lend(nursery, hub, source, number)
        await trio.sleep(10)
        source.arrive(b"a")
        await trio.sleep(10)
        quiet = [lender.sink.written for lender in lenders]
        await trio.sleep(INTERVAL * 2)
        source.complete(b"b")

    assert set(quiet) == {b"[1:a;]"}
    for lender in lenders:
        assert lender.sink.written == b"[1:a;]" + 2 * HEARTBEAT + b"[2:b;3:DONE;]"


async def test_who_lends_late_gets_what_comes_after_what_it_has_read() -> None:
    source = ScriptedSource()
    late = [Lender() for _ in range(2 * FEW)]
    async with open_hub() as hub, trio.open_nursery() as nursery:
        await lend(nursery, hub, source, 2 * FEW)
        source.arrive(b"a", b"b")
        await wait_all_tasks_blocked()
        for lender in late:
            nursery.start_soon(lender.run, hub, source)
        await wait_all_tasks_blocked()
        source.arrive(b"c")
        await wait_all_tasks_blocked()
        source.complete()

    for lender in late:
        assert (lender.read, lender.sink.written) == ([1, 2], b"[3:c;][4:DONE;]")


@pytest.mark.parametrize("number", [1, 2 * FEW])
async def test_stopping_takes_every_sink_back_and_tells_the_end(number: int) -> None:
    source = ScriptedSource()
    async with open_hub() as hub, trio.open_nursery() as nursery:
        lenders = await lend(nursery, hub, source, number)
        source.arrive(b"a")
        await wait_all_tasks_blocked()
        generation = lenders[0].subscriber.generation
        generation.cancel("stopped")

    for lender in lenders:
        assert lender.seqs == [1]
        assert lender.subscriber.end == generation.outcome
    assert generation.pump.sinks == {}


async def test_who_leaves_in_the_middle_of_a_pass_is_written_to_no_more() -> None:
    source = ScriptedSource()
    leavers: list[trio.CancelScope] = []

    class Treacherous(ScriptedSink):
        def write_nowait(self, data: bytes) -> int:
            for scope in leavers:
                scope.cancel()
            return super().write_nowait(data)

    lenders = [Lender(Treacherous())] + [Lender() for _ in range(2 * WRITES_AT_ONCE)]
    async with open_hub() as hub, trio.open_nursery() as nursery:

        async def run(lender: Lender) -> None:
            with trio.CancelScope() as scope:
                if lender is lenders[-1]:
                    leavers.append(scope)
                await lender.run(hub, source)

        for lender in lenders:
            nursery.start_soon(run, lender)
        await wait_all_tasks_blocked()
        source.arrive(b"a")
        await wait_all_tasks_blocked()
        source.complete()

    assert lenders[-1].sink.writes <= 1
    assert all(lender.seqs == [1, 2] for lender in lenders[:-1])


@pytest.mark.parametrize("number", [FEW, 2 * FEW])
async def test_who_is_evicted_before_its_turn_is_not_written_to_after_its_end(number: int) -> None:
    source = ScriptedSource()

    class Treacherous(ScriptedSink):
        def write_nowait(self, data: bytes) -> int:
            lenders[-1].subscriber.evict("draining")
            return super().write_nowait(data)

    lenders = [Lender(Treacherous())] + [Lender() for _ in range(number - 1)]
    async with open_hub() as hub, trio.open_nursery() as nursery:
        for lender in lenders:
            nursery.start_soon(lender.run, hub, source)
            await wait_all_tasks_blocked()  # so that they are written to in this order
        source.complete()

    assert (lenders[-1].seqs, lenders[-1].subscriber.end) == ([], Evicted("draining"))
    assert all(lender.seqs == [1] for lender in lenders[:-1])


@pytest.mark.parametrize("number", [1, 2 * FEW])
async def test_a_crash_while_writing_is_its_generations_alone(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(generation_id: str, event: Event) -> bytes:
        raise ZeroDivisionError

    class Crashing(ScriptedSink):
        render = staticmethod(crash)

    source, other = ScriptedSource(), ScriptedSource()
    lenders, watcher = [Lender(Crashing()) for _ in range(number)], Lender()
    async with open_hub() as hub, trio.open_nursery() as nursery:
        nursery.start_soon(partial(watcher.run, key="other"), hub, other)
        for lender in lenders:
            nursery.start_soon(lender.run, hub, source)
        await wait_all_tasks_blocked()
        source.arrive(b"a")
        other.arrive(b"a")
        await wait_all_tasks_blocked()
        other.complete()

    assert {lender.subscriber.end for lender in lenders} == {failed("internal")}
    assert (watcher.seqs, watcher.subscriber.end) == ([1, 2], COMPLETED)
    assert "ZeroDivisionError" in caplog.text


async def test_a_thousand_sinks_hold_up_the_other_tasks_for_a_few_hundred_writes_at_most() -> None:
    source = ScriptedSource()
    seen: list[int] = []
    async with open_hub() as hub, trio.open_nursery() as nursery:
        lenders = await lend(nursery, hub, source, 1_000)

        async def look() -> None:
            for _ in range(20):
                seen.append(sum(lender.sink.writes for lender in lenders))
                await trio.lowlevel.checkpoint()

        source.arrive(b"a")
        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        source.complete()

    steps = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert 1_000 in seen
    # Its turn may come last in one round, and first in the next.
    assert max(steps) <= 2 * WRITES_AT_ONCE
