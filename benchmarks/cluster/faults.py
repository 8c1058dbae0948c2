"""The faults, each done once: what it came to, in seconds, and what was promised."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import trio

from benchmarks.cluster.calls import fetch_calls, wait_over
from benchmarks.cluster.reader import Reader
from benchmarks.cluster.rig import NodeServer, Rig
from benchmarks.soak.questions import Question

RATE = 50.0
ENDLESS = 20_000
"""Tokens of an answer that no fault outlasts."""

READERS_EACH = 3
STOPPED_SECONDS = 5.0
PATIENCE_SECONDS = 5.0
"""Of readers, with a broker that is away; the nodes are told so."""

LATEST = 30.0
"""Seconds after which it is waited no more."""

NUMBERS = count(1)


@dataclass(frozen=True)
class Round:
    """One fault: what it took, and what is promised (both in seconds), and what was wrong."""

    seconds: float
    bound: float
    wrong: list[str] = field(default_factory=list[str])


class Scene:
    """Readers of one question at all nodes, of which the first node owns the call."""

    def __init__(self, rig: Rig, lease: float, nursery: trio.Nursery) -> None:
        self.rig = rig
        self.judged = lease * 1.25
        self.lease = lease
        self.question = fresh_question()
        self.wrong: list[str] = []
        self._nursery = nursery

    async def join(self, node: NodeServer, question: Question | None = None) -> Reader:
        """A reader that has read something."""
        reader = Reader(question or self.question, node)
        self._nursery.start_soon(reader.run)
        await reader.wait_events(10)
        return reader

    async def join_all(self, nodes: Sequence[NodeServer]) -> list[Reader]:
        """Some readers at each."""
        return [await self.join(node) for node in nodes for _ in range(READERS_EACH)]

    async def expect_calls(self, number: int) -> None:
        """Note where the engine was called more often, or less."""
        calls = await fetch_calls(self.rig.engine)
        found = sum(call.prompt == self.question.prompt for call in calls)
        if found != number:
            self.wrong.append(f"{found} calls, not {number}")

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)

    def expect_reading(self, readers: Sequence[Reader]) -> None:
        """Note whose stream is over, or was wrong."""
        for reader in readers:
            self.expect(reader.ending is None, f"a reader ended: {reader.ending}")
            self.expect(reader.violation is None, str(reader.violation))

    async def told(self, readers: Sequence[Reader], code: str) -> float:
        """Wait until each was told this; when the last was."""
        last = max([await reader.wait_ended(LATEST) for reader in readers])
        for reader in readers:
            self.expect(reader.ending == code, f"told {reader.ending}, not {code}")
            self.expect(reader.violation is None, str(reader.violation))
        return last


Fault = Callable[[Scene], Awaitable[Round]]


async def last_reader_leaves(scene: Scene) -> Round:
    owner, other, _ = scene.rig.nodes
    first, last = await scene.join(owner), await scene.join(other)
    first.scope.cancel()
    await trio.sleep(0.5)
    await scene.expect_calls(1)
    left_at = trio.current_time()
    last.scope.cancel()
    ended_at = await wait_over(scene.rig.engine, scene.question.prompt, LATEST)
    return Round(ended_at - left_at, 0.5, scene.wrong)


async def only_reader_killed(scene: Scene) -> Round:
    owner, other, _ = scene.rig.nodes
    first, _ = await scene.join(owner), await scene.join(other)
    first.scope.cancel()
    await trio.sleep(0.5)
    killed_at = trio.current_time()
    await trio.to_thread.run_sync(other.kill)
    ended_at = await wait_over(scene.rig.engine, scene.question.prompt, LATEST)
    return Round(ended_at - killed_at, scene.judged, scene.wrong)


async def owner_killed(scene: Scene) -> Round:
    owner, *others = scene.rig.nodes
    await scene.join(owner)
    theirs = await scene.join_all(others)
    killed_at = trio.current_time()
    await trio.to_thread.run_sync(owner.kill)
    told_at = await scene.told(theirs, "owner_lost")
    await scene.join_all(others)
    await scene.expect_calls(2)
    return Round(told_at - killed_at, scene.judged, scene.wrong)


async def owner_partitioned(scene: Scene) -> Round:
    gate = scene.rig.nodes[0].gate
    assert gate is not None
    return await _owner_away(scene, gate.hold, gate.open)


async def owner_stopped(scene: Scene) -> Round:
    owner = scene.rig.nodes[0]
    return await _owner_away(scene, owner.stop, owner.go_on)


async def _owner_away(scene: Scene, go: Callable[[], None], come_back: Callable[[], None]) -> Round:
    owner, *others = scene.rig.nodes
    mine = await scene.join(owner)
    theirs = await scene.join_all(others)
    away_at = trio.current_time()
    go()
    try:
        told_at = await scene.told(theirs, "owner_lost")
        again = await scene.join_all(others)
    finally:
        come_back()
    await mine.wait_events(len(mine.arrivals) + int(2 * scene.lease * RATE))
    scene.expect_reading([mine, *again])
    scene.expect(len({reader.generation_id for reader in again}) == 1, "more than one new call")
    await scene.expect_calls(2)
    return Round(told_at - away_at, scene.judged, scene.wrong)


async def broker_stops_here(scene: Scene) -> Round:
    """What readers of the owner feel of it."""
    readers, _ = await _broker_stops(scene)
    return Round(readers[0].longest_gap, 0.1, scene.wrong)


async def broker_stops_elsewhere(scene: Scene) -> Round:
    """How soon, after it goes on, others have all that they missed."""
    _, seconds = await _broker_stops(scene)
    return Round(seconds, scene.lease, scene.wrong)


async def _broker_stops(scene: Scene) -> tuple[list[Reader], float]:
    readers = await scene.join_all(scene.rig.nodes)
    scene.rig.broker.stop()
    try:
        await trio.sleep(STOPPED_SECONDS)
    finally:
        scene.rig.broker.go_on()
    seconds = await _catch_up(scene, readers)
    return readers, seconds


async def broker_restarts_empty(scene: Scene) -> Round:
    readers = await scene.join_all(scene.rig.nodes)
    await trio.to_thread.run_sync(scene.rig.broker.kill)
    await trio.to_thread.run_sync(scene.rig.broker.start)
    seconds = await _catch_up(scene, readers)
    return Round(seconds, scene.lease, scene.wrong)


async def _catch_up(scene: Scene, readers: Sequence[Reader]) -> float:
    """How long it takes until all have what the first has now; and see that all goes on well."""
    began_at = trio.current_time()
    here = len(readers[0].arrivals)
    for reader in readers:
        await reader.wait_events(here)
    seconds = trio.current_time() - began_at
    await trio.sleep(2 * scene.lease)  # in which an owner could be taken for dead
    scene.expect_reading(readers)
    await scene.expect_calls(1)
    return seconds


async def broker_gone(scene: Scene) -> Round:
    owner, *others = scene.rig.nodes
    mine = await scene.join(owner)
    theirs = await scene.join_all(others)
    gone_at = trio.current_time()
    await trio.to_thread.run_sync(scene.rig.broker.kill)
    told_at = await scene.told(theirs, "broker_lost")
    scene.expect_reading([mine])
    await scene.join(others[0], fresh_question())  # which makes its own call
    return Round(told_at - gone_at, PATIENCE_SECONDS + 0.5, scene.wrong)


FAULTS: dict[str, Fault] = {
    "last reader leaves": last_reader_leaves,
    "node of the only reader killed": only_reader_killed,
    "owner killed": owner_killed,
    "owner partitioned": owner_partitioned,
    "owner stopped, and woken": owner_stopped,
    "broker stopped 5 s: gap here": broker_stops_here,
    "broker stopped 5 s: caught up elsewhere": broker_stops_elsewhere,
    "broker restarted empty": broker_restarts_empty,
    "broker gone": broker_gone,
}


def fresh_question() -> Question:
    """One that nobody has asked, with an answer that does not end."""
    return Question(f"fault {next(NUMBERS)}", False, ENDLESS, RATE, 0.0)


@asynccontextmanager
async def open_scene(rig: Rig, lease: float) -> AsyncGenerator[Scene]:
    """A cluster that is well; on exit all readers leave."""
    await trio.to_thread.run_sync(rig.mend)
    await trio.sleep(1.5 * lease)  # until nodes judge each other
    async with trio.open_nursery() as nursery:
        yield Scene(rig, lease, nursery)
        nursery.cancel_scope.cancel(reason="the fault is over")
