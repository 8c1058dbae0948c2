"""The table of a pattern, as it is read."""

import re
from dataclasses import replace

from rich.console import Console

from benchmarks.storm.engine import Closing
from benchmarks.storm.patterns import PATTERNS
from benchmarks.storm.summary import Summary
from benchmarks.storm.table import render
from tests.benchmarks.rounds import QUIET, ROUND, round_with


def shown(summaries: dict[str, Summary | None]) -> dict[str, list[str]]:
    """The cells of each row, by its name."""
    console = Console(width=120)
    with console.capture() as capture:
        console.print(render(PATTERNS["poisson"], summaries))
    lines = [re.split(r"\s{2,}", line.rstrip()) for line in capture.get().splitlines()]
    return {name: cells for name, *cells in lines}


def test_a_target_that_cannot_do_a_pattern_has_no_figure() -> None:
    rows = shown({"trioproxy": Summary([ROUND]), "nginx": None})

    assert rows["calls (extra)"] == ["1 (+0)", "n/a"]
    assert rows["tasks"] == ["10→26→10", "n/a"]
    assert rows["left, lost, refused"] == ["nothing", "n/a"]


def test_faults_of_all_rounds_are_summed() -> None:
    round_ = round_with(closing=Closing(1, (), 1))

    rows = shown({"trioproxy": Summary([round_, round_])})

    assert rows["left, lost, refused"] == ["2 calls never closed"]


def test_a_row_without_a_figure_is_left_out() -> None:
    silent = replace(QUIET, tasks=None)
    round_ = round_with(
        closing=Closing(1, (), 0), before=silent, peak=silent, after=silent, target="nginx"
    )

    rows = shown({"nginx": Summary([round_])})

    assert "tasks" not in rows
    assert "close max, ms" not in rows
