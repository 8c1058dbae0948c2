"""One round: a pattern acted out against a target, and what was seen of it from all sides."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from benchmarks.processes import ROOT, Process
from benchmarks.sampling import Sample, Sampler
from benchmarks.storm.crowd import LIMIT_SECONDS
from benchmarks.storm.engine import Closing, forget_calls, judge, wait_closed, when_abandoned
from benchmarks.storm.patterns import Pattern
from benchmarks.storm.plan import Departures, Findings, Plan
from benchmarks.targets import Running, Target

SAMPLE_SECONDS = 0.1
QUIET_SECONDS = 10.0
"""How long the target's tasks and descriptors may take to be back where they were."""
MIN_ARRIVAL_SECONDS = 0.5
ARRIVAL_SECONDS = 0.003
"""Per client. The engine thinks so long before it generates, so that all are there when it does:
what most patterns measure is how clients leave, not how they come."""
MAX_WAITS = 4
"""No pattern lets the crowd wait more often."""
FINDING_SECONDS = 300.0

_Message = TypeVar("_Message", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True)
class Storm:
    """How large storms are, of whatever pattern: as on the command line."""

    clients: int
    generations: int
    rate: float
    seconds: float
    seed: int

    def plan(self, pattern: Pattern, target: Target, running: Running, number: int) -> Plan:
        """What the clients are told for one round: clients are dealt out to the generations in
        turn.

        Rounds of one number differ in nothing but where they go, and in the prompts: a target that
        does not share gets one for each client, so that its calls can be told apart.
        """
        generations = [client % self.generations for client in range(self.clients)]
        names = [f"{pattern.name} {number}, generation {index}" for index in generations]
        if not target.shares:
            names = [f"{name}, client {client}" for client, name in enumerate(names)]
        stream_seconds = max(self.seconds, pattern.min_stream_seconds)
        return Plan(
            pattern=pattern.name,
            host=running.host,
            port=running.port,
            prompts=names,
            generations=generations,
            tokens=max(1, round(self.rate * stream_seconds)),
            headers={
                "X-Fanout": "replay",
                "x-sim-ttft": f"{MIN_ARRIVAL_SECONDS + self.clients * ARRIVAL_SECONDS:g}",
                **pattern.headers,
            },
            seconds=self.seconds,
            seed=self.seed + number,
        )


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round came to.

    Attributes:
        wanted: how many generations the clients asked for.
        shares: the target has one call for all clients of a generation.
        closing: what the engine saw.
        findings: what the clients saw.
        before, peak, after: the target, the last when it was quiet or had had its time.
        engine_cpu_seconds: what the engine cost.
    """

    pattern: str
    target: str
    number: int
    wanted: int
    shares: bool
    closing: Closing
    findings: Findings
    before: Sample
    peak: Sample
    after: Sample
    engine_cpu_seconds: float

    @property
    def extra_calls(self) -> int:
        """Calls beyond one for each generation."""
        return self.closing.calls - self.wanted

    @property
    def cpu_seconds(self) -> float:
        """What the target cost."""
        return self.after.cpu_seconds - self.before.cpu_seconds


@dataclass(frozen=True)
class Failure:
    """A round that came to nothing, because the target did not answer for long or had ended."""

    pattern: str
    target: str
    number: int
    reason: str


class ClientsProcess:
    """The process of the clients; see ``benchmarks.storm.plan`` for what is said, and when.

    Every answer raises :exc:`RuntimeError` where the process ends, or is silent for longer than a
    storm can take, before it has been given.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout

    def act(self, plan: Plan) -> Departures:
        """Let them act out the plan; return when all of them have left."""
        self._input.write(msgspec.json.encode(plan) + b"\n")
        self._input.flush()
        return self._receive(Departures, MAX_WAITS * (plan.seconds + LIMIT_SECONDS))

    def find(self) -> Findings:
        """Let them work out what they saw."""
        self._input.close()
        return self._receive(Findings, FINDING_SECONDS)

    def _receive(self, type_: type[_Message], seconds: float) -> _Message:
        readable, _, _ = select.select([self._output], [], [], seconds)
        line = self._output.readline() if readable else b""
        if not line:
            raise RuntimeError("the clients' process " + ("ended" if readable else "is silent"))
        return msgspec.json.decode(line, type=type_)


@contextmanager
def clients_process() -> Generator[ClientsProcess]:
    """Run the clients' process for the length of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.storm.clients"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        process_group=0,  # a Ctrl-C is the harness's, which ends it
    )
    with process:
        try:
            yield ClientsProcess(process)
        finally:
            process.kill()


def measure(
    storm: Storm, pattern: Pattern, target: Target, running: Running, engine: Process, number: int
) -> Round:
    """Act out one round and look at it from all sides.

    Bounded in time: what a round waits for, it waits for no longer than its modules' constants say.
    Raises :exc:`OSError` or :exc:`http.client.HTTPException` where the target does not answer.
    """
    forget_calls(engine)
    plan = storm.plan(pattern, target, running, number)
    engine_cpu_seconds = engine.cpu_seconds()
    with clients_process() as clients:
        with Sampler(running.sample, SAMPLE_SECONDS) as sampler:
            departures = clients.act(plan)
            calls = wait_closed(engine)
        before = sampler.samples[0]
        after = running.wait_quiet(before, QUIET_SECONDS)
        engine_cpu_seconds = engine.cpu_seconds() - engine_cpu_seconds
        findings = clients.find()
    return Round(
        pattern=pattern.name,
        target=target.name,
        number=number,
        wanted=storm.generations,
        shares=target.shares,
        closing=judge(calls, when_abandoned(plan.prompts, departures.left_at)),
        findings=findings,
        before=before,
        peak=sampler.peak,
        after=after,
        engine_cpu_seconds=engine_cpu_seconds,
    )
