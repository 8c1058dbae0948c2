"""The engine's calls held against the departures of the clients that they were for."""

import pytest

from benchmarks.storm.engine import Call, Closing, judge, when_abandoned
from trioproxy.simulator import Outcome

SECOND = 10**9


def call(prompt: str, outcome: Outcome, ended: float | None) -> Call:
    ended_unix_ns = None if ended is None else int(ended * SECOND)
    return Call(prompt, outcome, began_unix_ns=0, ended_unix_ns=ended_unix_ns)


def test_a_prompt_is_abandoned_when_its_last_client_has_left() -> None:
    prompts = ["a", "b", "a", "a"]

    assert when_abandoned(prompts, [5, 6, 9, 7]) == {"a": 9, "b": 6}


@pytest.mark.parametrize("left_at", [[None, 5], [5, None]])
def test_a_prompt_is_not_abandoned_while_one_of_its_clients_stays(
    left_at: list[int | None],
) -> None:
    assert when_abandoned(["a", "a"], left_at) == {"a": None}


@pytest.mark.parametrize(
    ("outcome", "ended", "closing"),
    [
        (Outcome.ABORTED, 10.25, Closing(1, (0.25,), 0)),
        (Outcome.ABORTED, 9.75, Closing(1, (-0.25,), 0)),
        (Outcome.ACTIVE, None, Closing(1, (), 1)),
        (Outcome.COMPLETED, 12.0, Closing(1, (), 1)),
        (Outcome.COMPLETED, 10.5, Closing(1, (), 0)),
        (Outcome.COMPLETED, 8.0, Closing(1, (), 0)),
        (Outcome.FAILED, 12.0, Closing(1, (), 0)),
    ],
)
def test_an_abandoned_call_is_judged_by_how_it_ended(
    outcome: Outcome, ended: float | None, closing: Closing
) -> None:
    assert judge([call("a", outcome, ended)], {"a": 10 * SECOND}) == closing


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.ACTIVE])
def test_a_call_that_somebody_stayed_for_is_only_counted(outcome: Outcome) -> None:
    assert judge([call("a", outcome, None)], {"a": None}) == Closing(1, (), 0)


def test_every_call_of_a_prompt_counts_and_no_other() -> None:
    calls = [call(prompt, Outcome.ABORTED, 11) for prompt in ("a", "a", "b", "warm-up")]

    assert judge(calls, {"a": 10 * SECOND, "b": 9 * SECOND}) == Closing(3, (1.0, 1.0, 2.0), 0)
