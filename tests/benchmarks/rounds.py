"""Rounds of a storm, made up."""

from dataclasses import replace
from typing import Any

from benchmarks.sampling import Sample
from benchmarks.storm.engine import Closing
from benchmarks.storm.measurement import Round
from benchmarks.storm.plan import Findings
from benchmarks.storm.verification import Deviation

QUIET = Sample(at=0, fds=10, rss_bytes=50 << 20, cpu_seconds=1, tasks=10)
FINDINGS = Findings(
    survivors=4,
    harmed=0,
    deviation=Deviation(),
    worst_gap=0.5,
    unserved=0,
    connections=4,
    cpu_seconds=0.25,
)
ROUND = Round(
    pattern="poisson",
    target="trioproxy",
    number=0,
    wanted=1,
    shares=True,
    closing=Closing(1, (0.003,), 0),
    findings=FINDINGS,
    before=QUIET,
    peak=replace(QUIET, fds=14, tasks=26, rss_bytes=60 << 20),
    after=replace(QUIET, cpu_seconds=3, rss_bytes=55 << 20),
    engine_cpu_seconds=0.5,
)
"""One in which all went well."""


def round_with(**changes: Any) -> Round:
    return replace(ROUND, **changes)
