"""A distribution by its percentiles."""

import pytest

from benchmarks.distribution import percentile, percentiles


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.01, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1, 4)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    assert expected == percentile([1, 2, 3, 4], share)


def test_percentiles_go_from_the_least_to_the_most_in_a_hundred_steps() -> None:
    told = percentiles(range(1000, -1, -1))

    assert (told[0], told[50], told[99], told[100]) == (0, 500, 990, 1000)


def test_there_are_no_percentiles_of_nothing() -> None:
    assert percentiles([]) == []
