"""Each benchmark of speed, tiny, on real processes."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.contenders import fan_outs

BENCHMARKS = (
    "fanout",
    "passthrough",
    "connect",
    "memory",
    "latency",
    "strategies",
    "latejoin",
)
TINY = ("--rounds", "1", "--seconds", "0.3", "--settle", "0")


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def run_tiny(name: str, output: Path, *options: str) -> dict[str, list[dict[str, Any]]]:
    """Run it; return its rounds, by contender."""
    status = module_of(name).main([*options, *TINY, "--output", str(output)])

    assert status == 0
    [results], drawn = list(output.glob("*.json")), list(output.glob("*.png"))
    assert [results.stem] == [path.stem for path in drawn]
    return json.loads(results.read_bytes())["rounds"]


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--target", "elsewhere"], ["--seconds", "nan"]]
)
def test_options_that_make_no_sense_are_refused(name: str, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        module_of(name).main(arguments)

    assert exit_.value.code == 2


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_help_says_what_is_measured(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        module_of(name).main(["--help"])

    told = " ".join(capsys.readouterr().out.split())
    assert exit_.value.code == 0
    assert " ".join(module_of(name).DESCRIPTION.split()) in told


@pytest.mark.parametrize("target", ["trioproxy", "nchan", "loop"])
def test_one_stream_reaches_all_subscribers(target: str, tmp_path: Path) -> None:
    if reason := fan_outs()[target].missing():
        pytest.skip(reason)

    rounds = run_tiny("fanout", tmp_path, "--subscribers", "5", "--target", target)

    [seen] = [round_["seen"] for round_ in rounds[target]]
    assert seen["lost"] == 0
    assert 5 * 10 <= seen["events"] <= 5 * 20  # 0.3 s of 50 events/s are 15
    assert -0.001 < seen["delays"][50] < 0.3


@pytest.mark.parametrize(("transport", "target"), [("tls", "trioproxy"), ("websocket", "quart")])
def test_one_stream_reaches_all_subscribers_over_other_transports(
    transport: str, target: str, tmp_path: Path
) -> None:
    options = ("--subscribers", "3", "--transport", transport, "--target", target)

    rounds = run_tiny("fanout", tmp_path, *options)

    assert [own["seen"]["lost"] for own in rounds[target]] == [0]


def test_streams_are_passed_through(tmp_path: Path) -> None:
    rounds = run_tiny("passthrough", tmp_path, "--streams", "3", "--target", "trioproxy")

    assert rounds["trioproxy"][0]["seen"]["lost"] == 0


@pytest.mark.parametrize("keep_alive", [[], ["--keep-alive"]])
def test_short_streams_come_one_after_the_other(keep_alive: list[str], tmp_path: Path) -> None:
    rounds = run_tiny("connect", tmp_path, "--target", "trioproxy", *keep_alive)

    answered = rounds["trioproxy"][0]["seen"]
    assert answered["answers"] > 8
    assert answered["failed"] == 0


def test_idle_subscribers_are_weighed(tmp_path: Path) -> None:
    [round_] = run_tiny("memory", tmp_path, "--subscribers", "20", "--target", "trioproxy")[
        "trioproxy"
    ]

    assert (round_["subscribers"], round_["unserved"]) == (20, 0)
    assert round_["held_bytes"] > round_["before_bytes"] > 1_000_000


def test_a_proxy_is_held_against_the_engine_itself(tmp_path: Path) -> None:
    rounds = run_tiny("latency", tmp_path, "--streams", "3", "--target", "trioproxy")

    assert {"direct", "trioproxy"} == set(rounds)


def test_each_strategy_makes_the_calls_that_are_its_own(tmp_path: Path) -> None:
    rounds = run_tiny("strategies", tmp_path, "--subscribers", "4", "--target", "live,private")

    calls = {mode: own[0]["calls"] for mode, own in rounds.items()}
    assert calls == {"live": 1, "private": 4}


def test_late_readers_catch_up(tmp_path: Path) -> None:
    options = ("--joiners", "2", "--bystanders", "2", "--events", "50", "--target", "joined")

    [round_] = run_tiny("latejoin", tmp_path, *options)["joined"]

    assert len(round_["catch_up_seconds"]) == 2
    assert round_["lost"] == 0
