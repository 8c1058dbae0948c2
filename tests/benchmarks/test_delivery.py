"""Arrivals held against the engine's schedule."""

import math

import pytest

from benchmarks.delivery import Delivery, Schedule, find_schedule, observe

MS = 1_000_000
EPOCH = 1_000_000_000_000_000_000
"""When the first token is due, in ns."""


def stamps(*reads: tuple[float, int]) -> list[int]:
    """Reads by their ms after the first token is due, and how many events had come."""
    return [value for at, events in reads for value in (EPOCH + int(at * MS), events)]


def seconds(milliseconds: float) -> float:
    return EPOCH / 1e9 + milliseconds / 1e3


PUNCTUAL = stamps((0, 2), (10, 3), (20, 4), (30, 6))
"""The role with the first of four tokens, 10 ms apart, and the end with the last."""
LATE = stamps((5, 2), (32, 6))


@pytest.mark.parametrize("readers", [[PUNCTUAL], [LATE, PUNCTUAL], [PUNCTUAL, []]])
def test_a_schedule_begins_where_the_fastest_delivery_has_it(readers: list[list[int]]) -> None:
    schedule = find_schedule(readers, tokens=4, rate=100)

    assert schedule is not None
    assert math.isclose(seconds(30), schedule.due_at(3), rel_tol=0, abs_tol=1e-5)


def test_there_is_no_schedule_where_no_token_came() -> None:
    assert find_schedule([[], stamps((7, 1))], tokens=4, rate=100) is None


def test_what_was_due_in_the_window_is_held_against_the_schedule() -> None:
    delivery = Delivery()
    schedule = Schedule(tokens=4, rate=100, began=seconds(0))

    observe([PUNCTUAL, LATE], schedule, (seconds(9), seconds(29)), delivery)

    assert pytest.approx([delay * 1e3 for delay in delivery.delays], abs=0.01) == [0, 0, 22, 12]
    assert pytest.approx([lead * 1e3 for lead in delivery.leads], abs=0.01) == [0, 0]


def test_what_came_in_the_window_is_counted_with_the_gaps_between() -> None:
    delivery = Delivery()
    schedule = Schedule(tokens=4, rate=100, began=seconds(0))

    observe([PUNCTUAL, LATE], schedule, (seconds(9), seconds(31)), delivery)

    assert delivery.events == 4
    gaps = [gap * 1e3 for gap in delivery.gaps]
    assert pytest.approx(gaps, abs=0.01) == [10, 10, 0]
