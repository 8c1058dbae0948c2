"""Any program of readers, engines, faults and clock, in any order of the scheduler, against the
model."""

from __future__ import annotations

from functools import partial

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.cluster.programs import LINGER, PATIENCE, TERMS, Operation, run_program
from trioproxy.testing import TaskCensus
from trioproxy.testing.determinism import deterministic

SECONDS = st.sampled_from(
    [0.005, 0.05, 0.3, 1.0, LINGER, TERMS.lease - 0.1, TERMS.lease * 1.6, PATIENCE + 1, 61.0]
)
READERS = [
    *["join"] * 6,
    "join with linger",
    "read by id",
    "leave",
    "leave",
    "all leave",
    "stop one",
]
ENGINE = [*["say"] * 4, "say much", "finish", "fail"]
FAULTS = [
    *["cut", "mend", "mend", "kill", "wipe", "stop broker", "go on", "go on", "lose replies"],
    *["slow", "fill"],
]


def operations(
    names: list[str], arguments: st.SearchStrategy[float]
) -> st.SearchStrategy[Operation]:
    return st.builds(Operation, st.sampled_from(names), arguments, st.booleans())


CALM = (
    operations(READERS, st.integers(0, 11)),
    operations(ENGINE, st.integers(0, 5)),
    operations(["clock"], SECONDS),
)
FAULTY = (*CALM, operations(FAULTS, st.integers(0, 5)))
# Of any length alike: lists by themselves are mostly short, and short programs find little.
PROGRAMS = st.tuples(st.integers(0, 40), st.booleans()).flatmap(
    lambda drawn: st.lists(
        st.one_of(FAULTY if drawn[1] else CALM), min_size=drawn[0], max_size=drawn[0]
    )
)


@settings(deadline=None, max_examples=60)
@given(program=PROGRAMS, seed=st.integers(0, 2**16))
def test_any_program_is_told_rightly_and_leaves_nothing(
    program: list[Operation], seed: int
) -> None:
    with deterministic(seed), TaskCensus() as census:
        trio.run(
            partial(run_program, program),
            clock=MockClock(autojump_threshold=0),
            instruments=[census],
        )
