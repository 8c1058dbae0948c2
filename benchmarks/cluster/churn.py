"""Readers that come and go at the nodes of a cluster in trouble."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import trio

from benchmarks.cluster.calls import Call, fetch_calls
from benchmarks.cluster.invariants import Visit, doubled_calls, unread_calls, wrong_endings
from benchmarks.cluster.keys import Keys
from benchmarks.cluster.reader import Reader
from benchmarks.cluster.rig import NodeServer, Rig, fetch
from benchmarks.cluster.trouble import Trouble, Troublemaker, Troubles
from benchmarks.processes import Process
from benchmarks.soak.questions import Question

RETENTION = 10.0
RATE = 20.0
TOKENS = (5, 120)
RECENT_QUESTIONS = 8
LATE = 0.85
"""The part of the visits that ask what others have asked recently."""

IMPATIENT = 0.4
"""The part that leave before the end, after so many seconds in the mean:"""
IMPATIENT_SECONDS = 1.5

PAUSE_SECONDS = 0.3
LOOK_SECONDS = 2.0
AT_REST_SECONDS = 15.0
COUNTS = ("tasks", "fds", "subscribers", "generations", "upstream_calls", "connections")


@dataclass(frozen=True)
class Plan:
    """What a run is to be. Times in seconds; ``every`` is the mean time between two troubles, from
    when one was got over. ``waits_for_keys``: it is waited until the last key has run out."""

    seconds: float
    seed: int
    readers: int
    lease: float
    every: float
    waits_for_keys: bool = True


@dataclass
class Findings:
    """What a run has seen. ``start`` is trio's time."""

    start: float
    visits: list[Visit] = field(default_factory=list[Visit])
    troubles: list[Trouble] = field(default_factory=list[Trouble])
    calls: int = 0
    looks: int = 0
    violations: list[str] = field(default_factory=list[str])

    @property
    def endings(self) -> Counter[str]:
        return Counter(visit.ending for visit in self.visits)


class Churn:
    """One run. Everything that is drawn is drawn from the plan's seed."""

    def __init__(self, rig: Rig, plan: Plan) -> None:
        self.findings = Findings(trio.current_time())
        self._rig = rig
        self._plan = plan
        self._judged = 1.25 * plan.lease
        self._troubles = Troubles(2 * plan.lease, self.findings.troubles)
        self._keys = Keys(rig.broker.port)
        self._calls: dict[int, Call] = {}
        self._collected_at = trio.current_time()
        self._recent: deque[Question] = deque(maxlen=RECENT_QUESTIONS)
        self._asked = 0
        self._baselines: dict[Process, dict[str, int]] = {}

    async def run(self, show: Callable[[Findings], None]) -> None:
        """Run it to the end; ``show`` is told every now and then what was seen so far."""
        for node in self._rig.nodes:
            await self._note_baseline(node)
        seed = self._plan.seed
        maker = Troublemaker(
            self._rig,
            Random(f"{seed}: trouble"),
            self._plan.lease,
            self._troubles,
            self._note_baseline,
        )
        async with trio.open_nursery() as looking:
            looking.start_soon(self._look_again_and_again, show)
            async with trio.open_nursery() as readers:
                for number in range(self._plan.readers):
                    readers.start_soon(self._visit_again_and_again, Random(f"{seed}: {number}"))
                until = self.findings.start + self._plan.seconds
                await maker.make(self._plan.every, until, f"churn {seed}")
                await trio.sleep(2 * self._plan.lease)
                readers.cancel_scope.cancel(reason="all leave")
            await self._see_at_rest()
            looking.cancel_scope.cancel(reason="all have left")
        await self._judge(maker)
        if self._plan.waits_for_keys:
            await self._see_keys_gone()

    # -- readers -----------------------------------------------------------------------------------

    async def _visit_again_and_again(self, random: Random) -> None:
        while True:
            await trio.sleep(random.expovariate(1 / PAUSE_SECONDS))
            known = [node for node in self._rig.nodes if node.process in self._baselines]
            reader = Reader(self._pick_question(random), random.choice(known))
            if random.random() < IMPATIENT:
                patience = random.expovariate(1 / IMPATIENT_SECONDS)
                reader.scope.deadline = trio.current_time() + patience
            try:
                await reader.run()
            finally:
                self._note(reader)

    def _pick_question(self, random: Random) -> Question:
        if self._recent and random.random() < LATE:
            return random.choice(self._recent)
        self._asked += 1
        prompt = f"churn {self._plan.seed}, question {self._asked}"
        self._recent.append(Question(prompt, False, random.randint(*TOKENS), RATE, 0.0))
        return self._recent[-1]

    def _note(self, reader: Reader) -> None:
        now = trio.current_time()
        prompt = reader.question.prompt
        self.findings.visits.append(
            Visit(prompt, reader.begun_at, reader.ended_at or now, reader.ending or "left")
        )
        if reader.violation is not None:
            at = reader.begun_at - self.findings.start
            self.findings.violations.append(
                f"{prompt}, asked at {at:.1f} s: {reader.generation_id} {reader.violation}"
            )

    # -- looking -----------------------------------------------------------------------------------

    async def _look_again_and_again(self, show: Callable[[Findings], None]) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            await self._collect_calls()
            await self._keys.look()
            show(self.findings)

    async def _collect_calls(self) -> None:
        found = {call.number: call for call in await fetch_calls(self._rig.engine)}
        for number, call in self._calls.items():
            if call.ended_at is None and number not in found:  # as the list was cleared
                self._calls[number] = replace(call, ended_at=self._collected_at)
        self._calls |= found
        self._collected_at = trio.current_time()
        await trio.to_thread.run_sync(fetch, self._rig.engine, "/calls", "DELETE")

    async def _note_baseline(self, node: NodeServer) -> None:
        """What a node holds that is connected. Until it is known, nobody asks that node."""
        assert node.process is not None
        before: dict[str, int] = {}
        with trio.move_on_after(AT_REST_SECONDS):
            while True:
                now = await trio.to_thread.run_sync(node.census)
                census = {name: now[name] for name in COUNTS}
                if census == before and node.gate is not None and node.gate.connections == 2:
                    break
                before = census
                await trio.sleep(0.1)
        self._baselines[node.process] = before

    # -- at the end --------------------------------------------------------------------------------

    async def _see_at_rest(self) -> None:
        left: dict[str, int] = {}
        for number, node in enumerate(self._rig.nodes):
            with trio.move_on_after(AT_REST_SECONDS):
                while left := await self._above_baseline(node):  # noqa: ASYNC110 - nothing tells
                    await trio.sleep(0.1)
            if left:
                self.findings.violations.append(f"node {number} holds more than at first: {left}")

    async def _above_baseline(self, node: NodeServer) -> dict[str, int]:
        now = await trio.to_thread.run_sync(node.census)
        assert node.process is not None
        baseline = self._baselines[node.process]
        above = {name: now[name] - baseline[name] for name in COUNTS}
        return {name: more for name, more in above.items() if more > 0}

    async def _judge(self, maker: Troublemaker) -> None:
        await self._collect_calls()
        findings, calls = self.findings, list(self._calls.values())
        own = [call for call in calls if "probe" not in call.prompt]
        findings.calls, findings.looks = len(own), self._keys.looks
        now = trio.current_time()
        findings.violations += [
            *maker.violations,
            *self._keys.violations,
            *wrong_endings(findings.visits, self._troubles),
            *doubled_calls(own, self._troubles),
            *unread_calls(own, findings.visits, self._troubles, judged=self._judged, now=now),
        ]

    async def _see_keys_gone(self) -> None:
        for node in self._rig.nodes:
            await trio.to_thread.run_sync(node.end)
        left = await self._keys.look() or {}
        await trio.sleep(max(left.values(), default=0.0) + 1)
        left = await self._keys.look()
        if left:
            self.findings.violations.append(f"{len(left)} keys are left: {sorted(left)[:5]}")
