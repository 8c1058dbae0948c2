"""The command: its options, and a small storm on real processes."""

import json
from pathlib import Path

import pytest

from benchmarks.storm.__main__ import main, parse
from benchmarks.storm.patterns import PATTERNS


@pytest.mark.parametrize(
    "arguments",
    [
        ["--target", "elsewhere"],
        ["--pattern", "drizzle"],
        ["--clients", "0"],
        ["--clients", "many"],
        ["--clients", "1000000"],
        ["--clients", "5", "--generations", "6"],
        ["--rounds", "0"],
        ["--rate", "0"],
        ["--seconds", "inf"],
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)

    assert exit_.value.code == 2


def test_all_is_every_pattern_and_some_are_told_by_name() -> None:
    assert parse(["--pattern", "all"]).pattern == list(PATTERNS)
    assert parse(["--pattern", "reset,flap,reset"]).pattern == ["reset", "flap"]


def test_a_small_storm_leaves_nothing_at_trioproxy(tmp_path: Path) -> None:
    patterns = ["reset", "poisson", "reload"]
    size = ["--clients", "20", "--generations", "2", "--rounds", "1"]
    pace = ["--rate", "100", "--seconds", "0.5"]

    status = main([*size, *pace, "--pattern", ",".join(patterns), "--output", str(tmp_path)])

    assert status == 0
    rounds = json.loads(tmp_path.joinpath("storm.json").read_bytes())["rounds"]
    assert [round_["pattern"] for round_ in rounds] == patterns
    assert [round_["closing"]["calls"] for round_ in rounds] == [2, 2, 2]
    assert len(rounds[0]["closing"]["seconds"]) == 2
    assert [round_["findings"]["connections"] for round_ in rounds] == [20, 20, 40]
    assert rounds[2]["findings"]["survivors"] == 20
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "storm-close.png",
        "storm-cpu.png",
        "storm-held.png",
    ]
