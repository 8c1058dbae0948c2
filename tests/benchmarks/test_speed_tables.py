"""Rounds in turns, and what is told of them."""

import io
import json
import signal
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.contenders import Contender
from benchmarks.options import at_least, names
from benchmarks.processes import Process
from benchmarks.report import choose, conclude, run_as_program
from benchmarks.rounds import Results, take_turns
from benchmarks.sweeps import Axes, lines_of, report_sweep
from benchmarks.tables import Column, median, render

CONSOLE_COLUMNS = 200


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=CONSOLE_COLUMNS, record=True)


def test_cases_take_turns(console: Console) -> None:
    order: list[tuple[str, int]] = []

    def case(name: str, number: int) -> int:
        order.append((name, number))
        return number

    results = take_turns(
        {"a": lambda number: case("a", number), "b": lambda number: case("b", number)}, 2, console
    )

    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert results.rounds == {"a": [0, 1], "b": [0, 1]}


def test_a_round_that_comes_to_nothing_is_told_and_the_others_go_on(console: Console) -> None:
    def fail_once(number: int) -> int:
        if number == 0:
            raise ConnectionError("the other end has gone")
        return number

    results = take_turns({"a": fail_once}, 2, console)

    assert results.rounds == {"a": [1]}
    assert results.failures == ["a, round 1: the other end has gone"]


@pytest.mark.parametrize(
    ("rounds", "expected"), [([], None), ([None], None), ([3.0, None, 1.0, 2.0], 2.0)]
)
def test_a_median_is_of_the_rounds_that_have_the_figure(
    rounds: list[float | None], expected: float | None
) -> None:
    assert expected == median(rounds, lambda value: value)


def test_a_table_has_medians_and_ratios_to_trioproxy(console: Console) -> None:
    column = Column[float]("cost", lambda value: value, ".1f", is_compared=True)

    console.print(render("title", {"trioproxy": [4, 5, 99], "peer": [10.0], "none": []}, [column]))

    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["trioproxy", "5.0", "1.00×"] in rows
    assert ["peer", "10.0", "2.00×"] in rows
    assert ["none", "–", "–"] in rows


@pytest.mark.parametrize(
    ("results", "status"),
    [
        (Results({"trioproxy": [0, 0], "peer": [3]}), 0),
        (Results({"trioproxy": [0, 1]}), 1),
        (Results({"trioproxy": [0]}, ["trioproxy, round 2: silence"]), 1),
        (Results({"trioproxy": [0]}, ["peer, round 2: silence"]), 0),
    ],
)
def test_what_trioproxy_loses_is_the_exit_status(
    results: Results[int], status: int, console: Console
) -> None:
    assert status == conclude(results, lambda lost: lost, [], console)


def test_a_sweep_has_a_line_for_each_contender_and_is_written(
    tmp_path: Path, console: Console
) -> None:
    axes = Axes[float]("title", "readers", "cost", lambda value: value)
    swept = {1: Results({"loop": [3.0, 1.0, 2.0]}), 10: Results[float]({"loop": []})}
    options = Namespace(rounds=1, output=tmp_path)

    status = report_sweep(
        "small", [1, 10], lambda size: {"loop": lambda number: size / 2}, [axes],
        lambda value: 0, options, console,
    )  # fmt: skip

    assert lines_of(swept, axes) == {"loop": {1: 2.0}}
    assert status == 0
    assert json.loads((tmp_path / "small.json").read_bytes())["rounds"] == {"loop": [0.5, 5.0]}
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["nan", "inf", "0.4", "-1"])
def test_a_number_that_is_less_or_not_finite_is_refused(text: str) -> None:
    with pytest.raises(Exception, match=r"must be 0\.5 or more"):
        at_least(float, 0.5)(text)


def test_names_are_all_or_some_each_once() -> None:
    read = names(["a", "b", "c"])

    assert read("all") == ["a", "b", "c"]
    assert read("c,a,c") == ["c", "a"]
    with pytest.raises(Exception, match="unknown: d"):
        read("a,d")


def test_sigterm_ends_a_benchmark_as_ctrl_c_does() -> None:
    def be_ended() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as exit_:
            run_as_program(be_ended)
    finally:
        signal.signal(signal.SIGTERM, handler)

    assert exit_.value.code == 130


def test_contenders_that_cannot_run_are_told_and_left_out(console: Console) -> None:
    absent = Contender(name="absent", missing=lambda: "not installed", launch=nothing)
    present = Contender(name="present", missing=lambda: None, launch=nothing)
    contenders = {"absent": absent, "present": present}

    assert choose(contenders, ["absent", "present"], console) == {"present": present}
    assert "absent is not measured: not installed" in console.export_text()
    with pytest.raises(SystemExit) as exit_:
        choose(contenders, ["absent"], console)
    assert exit_.value.code == 2


def nothing(engine_url: str) -> AbstractContextManager[Process]:
    raise AssertionError("it is not launched here")


def interrupt_at(last: int) -> Callable[[int], int]:
    def measure(number: int) -> int:
        if number == last:
            raise KeyboardInterrupt
        return number

    return measure


def test_what_was_measured_before_an_interruption_is_told(console: Console) -> None:
    results = take_turns({"trioproxy": interrupt_at(1)}, 3, console)

    assert results.rounds == {"trioproxy": [0]}
    assert conclude(results, lambda lost: lost, [], console) == 130


def test_an_interruption_before_anything_was_measured_is_one(console: Console) -> None:
    with pytest.raises(KeyboardInterrupt):
        take_turns({"trioproxy": interrupt_at(0)}, 3, console)


def test_a_sweep_tells_the_sizes_before_an_interruption(tmp_path: Path, console: Console) -> None:
    axes = Axes[int]("title", "readers", "cost", lambda value: value + 1)
    options = Namespace(rounds=1, output=tmp_path)

    status = report_sweep(
        "cut",
        [1, 10, 100],
        lambda size: {"loop": interrupt_at(0 if size == 10 else 1)},
        [axes],
        lambda value: 0,
        options,
        console,
    )

    assert status == 130
    assert json.loads((tmp_path / "cut.json").read_bytes())["rounds"] == {"loop": [0]}
