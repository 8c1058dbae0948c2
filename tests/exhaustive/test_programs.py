"""Any program of clients, engine and clock, in any order of the scheduler, against the model."""

from __future__ import annotations

import os
import time
from functools import partial

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.exhaustive.programs import LINGER, WRITE_TIMEOUT, Operation, run_program
from tests.exhaustive.tally import tally
from trioproxy.testing import TaskCensus
from trioproxy.testing.determinism import deterministic

SECONDS = st.sampled_from([0.1, LINGER - 0.1, LINGER, WRITE_TIMEOUT, 16.0, 60.0])
CLIENTS = ["start", *["join"] * 4, "live", *["linger"] * 2]
MOVES = ["leave", "reset", "stall", "go on", "resume", "reload", "reload", "stop", "kill"]
ENGINE = ["head", *["say"] * 4, *["say much"] * 2, "finish", "fail", "truncate", "cut"]


def operations(
    names: list[str], arguments: st.SearchStrategy[float]
) -> st.SearchStrategy[Operation]:
    return st.builds(Operation, st.sampled_from(names), arguments, st.booleans())


OPERATIONS = st.one_of(
    operations(CLIENTS, st.integers(0, 1)),
    operations(MOVES, st.integers(0, 7)),
    operations(ENGINE, st.integers(0, 7)),
    operations(ENGINE, st.integers(0, 7)),
    operations(["clock"], SECONDS),
)
# Of any length alike: lists by themselves are mostly short, and short programs find little.
PROGRAMS = st.integers(0, 60).flatmap(lambda n: st.lists(OPERATIONS, min_size=n, max_size=n))


@settings(deadline=None, max_examples=200)
@given(program=PROGRAMS, seed=st.integers(0, 2**16))
def any_program_is_told_rightly_and_leaves_nothing(program: list[Operation], seed: int) -> None:
    with deterministic(seed), TaskCensus() as census:
        trio.run(
            partial(run_program, program),
            clock=MockClock(autojump_threshold=0),
            instruments=[census],
        )
    tally.programs += 1


def test_any_program_is_told_rightly_and_leaves_nothing() -> None:
    """A fixed number of programs; with ``HYPOTHESIS_PROFILE=long``, for ``HYPOTHESIS_MINUTES``."""
    is_long = os.environ.get("HYPOTHESIS_PROFILE") == "long"
    minutes = float(os.environ.get("HYPOTHESIS_MINUTES", "10")) if is_long else 0
    until = time.monotonic() + 60 * minutes
    any_program_is_told_rightly_and_leaves_nothing()
    while time.monotonic() < until:
        any_program_is_told_rightly_and_leaves_nothing()
