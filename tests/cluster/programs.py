"""Programs of what readers, engines, the broker and the clock do to a cluster, and the model of
what must be seen.

Everything is played by nodes on a broker in memory, in virtual time. An operation names its object
by a number, so that every list of operations is a program. The model is small: what each call has
said and how it ended, and which faults there were.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

import trio
from trio.testing import wait_all_tasks_blocked

from tests.cluster.nodes import Member, open_member
from tests.support.reading import Reading
from tests.support.source import ScriptedSource
from trioproxy.cluster import BrokerError, Terms
from trioproxy.cluster.keys import epoch_of, nodes_of
from trioproxy.fanout import COMPLETED, FanoutError, Gap, Outcome, SourceFailed, Subscriber
from trioproxy.testing.broker import FakeBroker

NODES = 3
REQUESTS = ("aa" * 16, "bb" * 16)
LINGER = 5.0
PATIENCE = 30.0
TERMS = Terms(lease=6.0, ttl=60.0, retention=60.0)
LONG = 70.0
"""Seconds in which every lease, linger and patience is over."""

LOST = ("owner_lost", "broker_lost")


class Operation(NamedTuple):
    """What is done, to which (or for how many seconds), and whether everyone else is then waited
    for."""

    name: str
    argument: float
    settles: bool


@dataclass(eq=False)
class Reader:
    """One reader at a node, and what it saw. ``refused`` is why it was not let in."""

    member: Member
    reading: Reading = field(default_factory=Reading)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    subscriber: Subscriber | None = None
    refused: Exception | None = None
    has_left: bool = False
    by_id: bool = False

    async def read(self, joining: AbstractAsyncContextManager[Subscriber]) -> None:
        try:
            with self.scope:
                async with joining as self.subscriber:
                    await self.reading.follow(self.subscriber)
        except (BrokerError, FanoutError) as error:
            self.refused = error
        finally:
            self.has_left = True

    @property
    def is_reading(self) -> bool:
        return self.subscriber is not None and not self.has_left


@dataclass(eq=False)
class Place:
    """A node that can be killed."""

    name: str
    member: Member
    scope: trio.CancelScope
    is_cut: bool = False


@dataclass
class World:
    """What is played in."""

    nursery: trio.Nursery
    broker: FakeBroker = field(default_factory=FakeBroker)
    places: list[Place] = field(default_factory=list[Place])
    readers: list[Reader] = field(default_factory=list[Reader])
    said: dict[ScriptedSource, list[bytes]] = field(
        default_factory=dict[ScriptedSource, list[bytes]]
    )
    ended: set[ScriptedSource] = field(default_factory=set[ScriptedSource])
    members: list[Member] = field(default_factory=list[Member])
    had_faults: bool = False
    is_stopped: bool = False
    names: int = 0

    # -- what is done ------------------------------------------------------------------------------

    async def open_place(self, index: int) -> None:
        self.names += 1
        name = f"node{self.names}"
        place: Place = await self.nursery.start(self._hold, name)
        self.members.append(place.member)
        if index < len(self.places):
            self.places[index] = place
        else:
            self.places.append(place)

    async def _hold(self, name: str, *, task_status: trio.TaskStatus[Place]) -> None:
        with trio.CancelScope() as scope:
            async with open_member(self.broker, name, terms=TERMS) as member:
                task_status.started(Place(name, member, scope))
                await trio.sleep_forever()

    async def do(self, operation: Operation) -> None:
        name, argument, settles = operation
        await getattr(self, "_" + re.sub(" ", "_", name))(argument)
        if settles:
            await wait_all_tasks_blocked()
        self.look()

    async def _join(self, argument: float) -> None:
        number = int(argument)
        member = self.places[number % len(self.places)].member
        request = REQUESTS[number // NODES % len(REQUESTS)]
        self._start(member, member.reading(request))

    async def _join_with_linger(self, argument: float) -> None:
        number = int(argument)
        member = self.places[number % len(self.places)].member
        request = REQUESTS[number // NODES % len(REQUESTS)]
        self._start(member, member.reading(request, LINGER))

    async def _read_by_id(self, argument: float) -> None:
        known = [reader.subscriber for reader in self.readers if reader.subscriber is not None]
        if known:
            public_id = known[int(argument) % len(known)].generation.id
            member = self.places[int(argument) // 2 % len(self.places)].member
            self._start(member, member.reading_by_id(public_id), by_id=True)

    def _start(
        self,
        member: Member,
        joining: AbstractAsyncContextManager[Subscriber],
        *,
        by_id: bool = False,
    ) -> None:
        if any(place.member is member and place.scope.cancel_called for place in self.places):
            return
        reader = Reader(member, by_id=by_id)
        self.readers.append(reader)
        self.nursery.start_soon(reader.read, joining)

    async def _leave(self, argument: float) -> None:
        here = [reader for reader in self.readers if not reader.has_left]
        if here:
            here[int(argument) % len(here)].scope.cancel()

    async def _all_leave(self, argument: float) -> None:
        for reader in self.readers:
            reader.scope.cancel()

    async def _stop_one(self, argument: float) -> None:
        here = [reader for reader in self.readers if reader.is_reading]
        if here:
            reader = here[int(argument) % len(here)]
            assert reader.subscriber is not None
            reader.member.node.stop(reader.subscriber.generation)

    @property
    def calls(self) -> list[ScriptedSource]:
        return [call for member in self.members for call in member.calls]

    def _open_call(self, argument: float) -> ScriptedSource | None:
        calls = [call for call in self.calls if call.is_open and call not in self.ended]
        return calls[int(argument) % len(calls)] if calls else None

    async def _say(self, argument: float) -> None:
        self._speak(argument, 1)

    async def _say_much(self, argument: float) -> None:
        self._speak(argument, 300)

    def _speak(self, argument: float, number: int) -> None:
        call = self._open_call(argument)
        if call is not None:
            said = self.said.setdefault(call, [])
            new = [b"%d %s" % (len(said) + n, b"x" * (number * 2)) for n in range(number)]
            said += new
            call.arrive(*new)

    async def _finish(self, argument: float) -> None:
        call = self._open_call(argument)
        if call is not None:
            self.said.setdefault(call, []).append(b"[DONE]")
            self.ended.add(call)
            call.complete()

    async def _fail(self, argument: float) -> None:
        call = self._open_call(argument)
        if call is not None:
            self.ended.add(call)
            call.fail(SourceFailed("broken", "a crash"))

    async def _clock(self, argument: float) -> None:
        await trio.sleep(argument)

    # -- faults ------------------------------------------------------------------------------------

    async def _cut(self, argument: float) -> None:
        self.had_faults = True
        place = self.places[int(argument) % len(self.places)]
        place.is_cut = True
        self.broker.cut(place.name)

    async def _mend(self, argument: float) -> None:
        place = self.places[int(argument) % len(self.places)]
        if place.is_cut:
            place.is_cut = False
            self.broker.mend(place.name)

    async def _kill(self, argument: float) -> None:
        """At once, and nothing is told to anybody."""
        self.had_faults = True
        index = int(argument) % len(self.places)
        self.broker.cut(self.places[index].name)
        self.end_place(index)
        await self.open_place(index)

    def end_place(self, index: int) -> None:
        """As a process that ends: its clients first."""
        place = self.places[index]
        for reader in self.readers:
            if reader.member is place.member:
                reader.scope.cancel()
        place.scope.cancel()

    async def _wipe(self, argument: float) -> None:
        self.had_faults = True
        self.broker.wipe()

    async def _stop_broker(self, argument: float) -> None:
        self.had_faults = True
        if not self.is_stopped:
            self.is_stopped = True
            self.broker.stop()

    async def _go_on(self, argument: float) -> None:
        if self.is_stopped:
            self.is_stopped = False
            self.broker.go_on()

    async def _lose_replies(self, argument: float) -> None:
        self.had_faults = True
        self.broker.lose_replies(
            self.places[int(argument) % len(self.places)].name, 1 + int(argument) % 4
        )

    async def _slow(self, argument: float) -> None:
        self.broker.delay = (0.0, 0.05, 0.2)[int(argument) % 3]

    async def _fill(self, argument: float) -> None:
        self.had_faults = True
        self.broker.is_full = not self.broker.is_full

    async def heal(self) -> None:
        """No fault any more."""
        await self._go_on(0)
        self.broker.is_full = False
        self.broker.delay = 0.0
        for index in range(len(self.places)):
            await self._mend(index)

    # -- what must be seen -------------------------------------------------------------------------

    def look(self) -> None:
        """At every reader, at any time."""
        for reader in self.readers:
            reading = reader.reading
            gaps = [told for told in reading.told if isinstance(told, Gap)]
            assert not gaps, f"a gap was told: {gaps}"
            assert reading.seqs == list(range(1, len(reading.seqs) + 1)), "no dense run"
            if reading.data:
                assert any(
                    said[: len(reading.data)] == reading.data for said in self.said.values()
                ), "no call has said this"
            if isinstance(reading.end, Outcome):
                self._check_end(reader, reading.end)

    def _check_end(self, reader: Reader, end: Outcome) -> None:
        reading = reader.reading
        if end == COMPLETED:
            assert reading.data in self.said.values(), "it was completed elsewhere"
        elif end.reason in LOST:
            assert self.had_faults, f"{end} without a fault"
        else:
            assert end.reason in ("stopped", "shutdown", "abandoned", "broken", "elsewhere"), str(
                end
            )
            assert end.reason != "abandoned" or reader.by_id, "it was abandoned by its reader"

    def look_at_calls(self) -> None:
        """When nothing has gone wrong: one call for each request."""
        if not self.had_faults:
            running = [
                generation.key
                for member in self.members
                for generation in member.node.hub.running
                if not generation.is_replica
            ]
            assert len(running) == len(set(running)), "two calls for one request"

    async def end_calls(self) -> None:
        """Let what is open come to its end."""
        for _ in range(len(self.calls)):
            await self.do(Operation("say", 0, True))
            await self.do(Operation("finish", 0, True))

    def check_nothing_runs(self) -> None:
        """When all is over, at every node."""
        self.look()
        waiting = [reader for reader in self.readers if not reader.has_left]
        assert not waiting, f"{len(waiting)} readers were never told an end"
        for member in self.members:
            assert not any(call.is_open for call in member.calls), "a call without readers"
            assert not member.node.hub.running
        for place in self.places:
            assert place.member.node.leases == 0, "something is owned still"
            assert place.member.node.replicas == 0, "something is followed still"


async def run_program(program: list[Operation]) -> None:
    """Play it, heal what is broken, let what is open come to its end, and look for what is left."""
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        for index in range(NODES):
            await world.open_place(index)
        await trio.sleep(TERMS.lease)
        for operation in program:
            await world.do(operation)
        world.look_at_calls()
        await world.heal()
        await trio.sleep(LONG)
        world.look()
        await world.end_calls()
        await trio.sleep(2 * LONG)
        world.check_nothing_runs()
        await trio.sleep(TERMS.retention + TERMS.ttl)
        left = {name for name in world.broker.memory.seconds_left() if ":n:" not in name}
        assert left <= {epoch_of(), nodes_of()}, f"keys are left: {left}"
        nursery.cancel_scope.cancel()
