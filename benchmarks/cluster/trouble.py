"""What happens to a cluster while it is used: faults, drawn one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import trio

from benchmarks.cluster.reader import Reader
from benchmarks.cluster.rig import NodeServer, Rig
from benchmarks.soak.questions import COMPLETED, Question

BROKER_STOPS_SECONDS = (0.2, 5.0)
PROBE_TOKENS = 3
PROBE_SECONDS = 5.0
"""How long a probe is waited for, before another is made."""

PROBE_PAUSE_SECONDS = 0.05
GIVEN_UP_SECONDS = 60.0

INFINITY = float("inf")


@dataclass
class Trouble:
    """One fault, in trio's time: it was ``undone_at``, and a call was shared by all nodes again at
    ``recovered_at`` (None: it goes on)."""

    kind: str
    began_at: float
    undone_at: float | None = None
    recovered_at: float | None = None

    @property
    def seconds_to_recover(self) -> float | None:
        """From when it was undone."""
        if self.recovered_at is None or self.undone_at is None:
            return None
        return self.recovered_at - self.undone_at


@dataclass
class Troubles:
    """All of them, oldest first. What happens ``after`` so many seconds may still be their
    fault."""

    after: float
    all: list[Trouble] = field(default_factory=list[Trouble])

    def overlap(self, begin: float, end: float) -> float:
        """For how many seconds between the two there was trouble, or what it led to."""
        return sum(
            max(0.0, min(end, (trouble.recovered_at or INFINITY) + self.after)
                - max(begin, trouble.began_at))
            for trouble in self.all
        )  # fmt: skip

    def touch(self, begin: float, end: float) -> bool:
        """Whether there was any."""
        return self.overlap(begin, end + 1e-9) > 0


class Troublemaker:
    """Does one fault after the other, each a while after the last one was got over."""

    def __init__(
        self, rig: Rig, random: Random, lease: float, troubles: Troubles,
        on_restart: Callable[[NodeServer], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.violations: list[str] = []
        self._rig = rig
        self._random = random
        self._lease = lease
        self._troubles = troubles
        self._on_restart = on_restart
        self._probes = 0
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "node killed": self._kill_node,
            "node stopped": self._stop_node,
            "node cut off": self._hold_gate,
            "connections cut": self._cut_gate,
            "broker stopped": self._stop_broker,
            "broker restarted empty": self._restart_broker,
        }

    async def make(self, every: float, until: float, prompts: str) -> None:
        """Make trouble ``every`` so many seconds, in the mean. Returns at a moment of trio's time,
        or when what has begun before is got over."""
        while (pause := self._random.uniform(0.5, 1.5) * every) + trio.current_time() < until:
            await trio.sleep(pause)
            kind = self._random.choice(list(self._kinds))
            trouble = Trouble(kind, trio.current_time())
            self._troubles.all.append(trouble)
            await self._kinds[kind]()
            trouble.undone_at = trio.current_time()
            await self._recover(trouble, prompts)
        await trio.sleep_until(until)

    async def _recover(self, trouble: Trouble, prompts: str) -> None:
        with trio.move_on_after(GIVEN_UP_SECONDS):
            while not await self._probe(f"{prompts}, probe {self._probes}"):  # noqa: ASYNC110
                await trio.sleep(PROBE_PAUSE_SECONDS)
        trouble.recovered_at = trio.current_time()
        if (trouble.seconds_to_recover or 0.0) >= GIVEN_UP_SECONDS:
            self.violations.append(f"not got over in {GIVEN_UP_SECONDS:g} s: {trouble.kind}")

    async def _probe(self, prompt: str) -> bool:
        """Ask all nodes the same; whether they made one call, and told all of it."""
        self._probes += 1
        question = Question(prompt, False, PROBE_TOKENS, 20.0, 0.0)
        readers = [Reader(question, node) for node in self._rig.nodes]
        with trio.move_on_after(PROBE_SECONDS):
            async with trio.open_nursery() as nursery:
                for reader in readers:
                    nursery.start_soon(reader.run)
        self.violations += [
            f"{prompt}: {reader.violation}" for reader in readers if reader.violation is not None
        ]
        is_shared = len({reader.generation_id for reader in readers}) == 1
        return is_shared and all(reader.ending == COMPLETED for reader in readers)

    # -- the kinds ---------------------------------------------------------------------------------

    async def _kill_node(self) -> None:
        node = self._random.choice(self._rig.nodes)
        await trio.to_thread.run_sync(node.kill)
        await trio.sleep(self._random.uniform(0, 1.5) * self._lease)
        await trio.to_thread.run_sync(node.start)
        await self._on_restart(node)

    async def _stop_node(self) -> None:
        node = self._random.choice(self._rig.nodes)
        node.stop()
        await self._wait_and(node.go_on, (0.1, 2 * self._lease))

    async def _hold_gate(self) -> None:
        gate = self._random.choice(self._rig.nodes).gate
        assert gate is not None
        gate.hold()
        await self._wait_and(gate.open, (0.1, 2 * self._lease))

    async def _cut_gate(self) -> None:
        gate = self._random.choice(self._rig.nodes).gate
        assert gate is not None
        gate.cut()
        await trio.lowlevel.checkpoint()

    async def _stop_broker(self) -> None:
        self._rig.broker.stop()
        await self._wait_and(self._rig.broker.go_on, BROKER_STOPS_SECONDS)

    async def _restart_broker(self) -> None:
        await trio.to_thread.run_sync(self._rig.broker.kill)
        await trio.sleep(self._random.choice((0.0, self._random.uniform(0, 2 * self._lease))))
        await trio.to_thread.run_sync(self._rig.broker.start)

    async def _wait_and(self, undo: Callable[[], None], seconds: Sequence[float]) -> None:
        try:
            await trio.sleep(self._random.uniform(*seconds))
        finally:
            undo()
