"""What the rounds of a storm come to."""

from dataclasses import replace

import msgspec
import pytest

from benchmarks.storm.engine import Closing
from benchmarks.storm.measurement import Failure, Round
from benchmarks.storm.summary import Course, Results, Summary, faults
from benchmarks.storm.verification import Deviation
from tests.benchmarks.rounds import FINDINGS, QUIET, ROUND, round_with

NEVER_CLOSED = round_with(closing=Closing(1, (), 1))
EXTRA_CALLS = round_with(closing=Closing(3, (0.1, 0.1, 0.1), 0))
HARMED = round_with(
    findings=msgspec.structs.replace(FINDINGS, harmed=1, deviation=Deviation(lost=2))
)
UNSERVED = round_with(findings=msgspec.structs.replace(FINDINGS, unserved=4))
LEAKED = round_with(after=replace(QUIET, tasks=12, fds=11))


@pytest.mark.parametrize(
    ("round_", "expected"),
    [
        (ROUND, {}),
        (NEVER_CLOSED, {"calls never closed": 1}),
        (EXTRA_CALLS, {"extra calls": 2}),
        (HARMED, {"survivors harmed": 1}),
        (UNSERVED, {"clients unserved": 4}),
        (LEAKED, {"tasks left over": 2, "fds left over": 1}),
    ],
)
def test_what_leaked_or_was_lost_is_a_fault(round_: Round, expected: dict[str, int]) -> None:
    assert faults(round_) == expected


def test_the_calls_of_a_target_that_does_not_share_are_no_fault() -> None:
    assert faults(replace(EXTRA_CALLS, shares=False)) == {}


@pytest.mark.parametrize("round_", [NEVER_CLOSED, EXTRA_CALLS, HARMED, UNSERVED, LEAKED])
def test_a_fault_of_trioproxy_fails_the_run(round_: Round) -> None:
    assert Results([ROUND, round_]).exit_status == 1


def test_a_fault_of_another_target_does_not() -> None:
    assert Results([ROUND, replace(LEAKED, target="starlette")]).exit_status == 0


@pytest.mark.parametrize(("target", "status"), [("trioproxy", 1), ("starlette", 0)])
def test_a_round_that_came_to_nothing_fails_the_run_at_trioproxy(target: str, status: int) -> None:
    failure = Failure("reset", target, 0, "timed out")

    assert Results([ROUND], [failure]).exit_status == status


def test_close_latencies_of_all_rounds_are_taken_together() -> None:
    rounds = [round_with(closing=Closing(2, seconds, 0)) for seconds in ((0.5, 0.1), (0.3, 0.2))]

    assert Summary(rounds).close_seconds == [0.1, 0.2, 0.3, 0.5]


def test_a_course_is_of_medians() -> None:
    rounds = [round_with(peak=replace(QUIET, fds=fds)) for fds in (20, 90, 30)]

    assert Summary(rounds).course(lambda sample: sample.fds) == Course(10, 30, 10)


def test_there_is_no_course_of_what_a_target_does_not_tell() -> None:
    silent = replace(QUIET, tasks=None)
    round_ = round_with(before=silent, peak=silent, after=silent)

    assert Summary([round_]).course(lambda sample: sample.tasks) is None


def test_the_cpu_time_of_a_target_is_what_the_storm_cost() -> None:
    assert ROUND.cpu_seconds == 2
