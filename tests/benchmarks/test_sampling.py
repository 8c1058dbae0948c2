"""Samples of a server: what is above a baseline, what was most, and who takes them."""

import os
import threading
from typing import Any

import pytest

from benchmarks.processes import Process
from benchmarks.sampling import Sample, Sampler, peak, take_sample

NOTHING: dict[str, Any] = {"at": 0.0, "fds": 0, "rss_bytes": 0, "cpu_seconds": 0.0}


def sample(**figures: Any) -> Sample:
    return Sample(**NOTHING | figures)


@pytest.mark.parametrize(
    ("now", "baseline", "excess"),
    [
        ({}, {}, {}),
        ({"fds": 9}, {"fds": 7}, {"fds": 2}),
        ({"fds": 7}, {"fds": 9}, {}),
        (
            {"tasks": 12, "subscribers": 1},
            {"tasks": 9, "subscribers": 0},
            {"tasks": 3, "subscribers": 1},
        ),
        ({"tasks": None}, {"tasks": 5}, {}),
        ({"rss_bytes": 1_000, "cpu_seconds": 9.0, "at": 5.0}, {}, {}),
    ],
)
def test_what_is_above_the_baseline_is_counted_and_nothing_else(
    now: dict[str, Any], baseline: dict[str, Any], excess: dict[str, int]
) -> None:
    assert excess == sample(**now).above(sample(**baseline))


def test_the_peak_is_the_most_of_each_figure_whenever_it_was() -> None:
    samples = [
        sample(at=1.0, fds=9, rss_bytes=10, cpu_seconds=1.0, tasks=None),
        sample(at=2.0, fds=5, rss_bytes=30, cpu_seconds=2.0, tasks=4),
    ]

    most = sample(at=2.0, fds=9, rss_bytes=30, cpu_seconds=2.0, tasks=4)
    assert most == peak(samples)


def test_there_is_no_peak_of_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        peak([])


def test_a_sample_has_the_counts_of_the_census_and_the_costs_of_the_process() -> None:
    process = Process(os.getpid(), "127.0.0.1", 0)

    taken = take_sample(process, {"fds": 3, "tasks": 7, "generations": 1, "retained": 5})

    assert (taken.fds, taken.tasks, taken.generations, taken.connections) == (3, 7, 1, None)
    assert taken.rss_bytes > 1_000_000
    assert taken.cpu_seconds > 0


def test_without_a_census_the_file_descriptors_are_those_of_the_process() -> None:
    process = Process(os.getpid(), "127.0.0.1", 0)
    before = take_sample(process, {})

    reading, writing = os.pipe()
    during = take_sample(process, {})
    os.close(reading)
    os.close(writing)

    assert during.above(before) == {"fds": 2}
    assert during.tasks is None


def test_a_sampler_looks_first_again_and_again_and_last() -> None:
    looks: list[int] = []
    enough = threading.Event()

    def look() -> Sample:
        looks.append(threading.get_ident())
        if len(looks) == 4:
            enough.set()
        return sample(fds=len(looks))

    with Sampler(look, 0.001) as sampler:
        assert enough.wait(10)

    here = threading.get_ident()
    assert (here, here) == (looks[0], looks[-1])
    assert here not in looks[1:-1]
    assert len(looks) == len(sampler.samples) == sampler.peak.fds


def test_what_a_look_raises_ends_the_block() -> None:
    looks: list[None] = []
    failed = threading.Event()

    def look() -> Sample:
        looks.append(None)
        if len(looks) > 1:
            failed.set()
            raise OSError("no census")
        return sample()

    with pytest.raises(OSError, match="no census"), Sampler(look, 0.001):
        assert failed.wait(10)

    assert len(looks) == 2


def test_the_error_of_the_block_itself_is_not_replaced() -> None:
    failed = threading.Event()

    def look() -> Sample:
        if threading.current_thread() is not threading.main_thread():
            failed.set()
            raise OSError("no census")
        return sample()

    def sample_and_fail() -> None:
        with Sampler(look, 0.001):
            assert failed.wait(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sample_and_fail()
