"""The verdict of the soak, and what its command says."""

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.sampling import Sample
from benchmarks.soak import __main__ as command
from benchmarks.soak.crowd import Report
from benchmarks.soak.recording import Moment
from benchmarks.soak.run import Options, Result
from benchmarks.soak.verdict import fit_trend, judge, warm_up_seconds

MIB = 2**20


def at(seconds: float, **figures: Any) -> Moment:
    """A moment of a proxy and an engine at rest, but for these figures of the proxy's."""
    counts = dict.fromkeys(
        ("tasks", "fds", "subscribers", "generations", "upstream_calls", "connections"), 1
    )
    proxy: dict[str, Any] = {"rss_bytes": 100 * MIB, **counts} | figures
    return Moment(
        seconds=seconds,
        proxy=Sample(at=0.0, cpu_seconds=0.0, **proxy),
        engine=Sample(at=0.0, cpu_seconds=0.0, rss_bytes=30 * MIB, fds=9),
        retained=0,
        transcript_bytes=0,
        active_calls=0,
    )


def soaked(growth_mib: float = 0.0) -> list[Moment]:
    """Five minutes of which the first is warm-up, with so much growth in the other four."""
    return [
        at(float(second), rss_bytes=int((100 + growth_mib * (second - 60) / 240) * MIB))
        for second in range(301)
    ]


@pytest.mark.parametrize(("seconds", "warm_up"), [(120, 60), (300, 60), (1200, 240)])
def test_the_warm_up_is_a_fifth_and_a_minute_at_least(seconds: float, warm_up: float) -> None:
    assert warm_up == warm_up_seconds(seconds)


@pytest.mark.parametrize(
    ("value", "growth"),
    [
        (lambda t: 50.0, 0.0),
        (lambda t: 100 + t / 10, 60 / 130),
        (lambda t: 100 - t / 10, -60 / 70),
        (lambda t: 50.0 + (500 if t % 5 == 0 else 0), 0.0),
        (lambda t: 50.0 + (500 if t > 540 else 0), 0.0),
    ],
    ids=["flat", "growing", "falling", "spikes", "a peak at the end"],
)
def test_a_trend_is_not_bent_by_outliers(value: Callable[[int], float], growth: float) -> None:
    times = [float(second) for second in range(601)]

    trend = fit_trend(times, [value(second) for second in range(601)])

    assert math.isclose(growth, trend.growth, abs_tol=0.01)


def test_there_is_no_trend_in_less_than_two_windows() -> None:
    with pytest.raises(ValueError, match="two windows"):
        fit_trend([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])


def test_a_soak_in_which_all_held_has_no_failures() -> None:
    last = at(310, rss_bytes=200 * MIB)  # memory has no baseline to go back to

    assert judge(at(0), [*soaked(4.9), last], end=300, violations=[], log="a warning\n") == []


@pytest.mark.parametrize("growth_mib", [5.5, 40.0])
def test_memory_that_grows_by_a_twentieth_after_the_warm_up_fails(growth_mib: float) -> None:
    [failure] = judge(at(0), [*soaked(growth_mib), at(310)], end=300, violations=[], log="")

    assert failure.startswith("the proxy's memory grew by")


def test_what_grew_in_the_warm_up_is_not_held_against_it() -> None:
    moments = [*(at(float(t), rss_bytes=t * MIB) for t in range(60)), *soaked()[60:], at(310)]

    assert judge(at(0), moments, end=300, violations=[], log="") == []


@pytest.mark.parametrize(
    ("server", "count", "failure"),
    [
        ("proxy", "tasks", "proxy tasks is 2 above its baseline, 10 s after the end"),
        ("proxy", "connections", "proxy connections is 2 above its baseline"),
        ("engine", "fds", "engine fds is 2 above its baseline"),
        (None, "retained", "retained is 2 above its baseline"),
        (None, "transcript_bytes", "transcript bytes is 2 above its baseline"),
        (None, "active_calls", "active calls is 2 above its baseline"),
    ],
)
def test_a_count_above_its_baseline_at_the_end_fails(
    server: str | None, count: str, failure: str
) -> None:
    last = at(310)
    if server is None:
        last = replace(last, **{count: 2})
    else:
        sample = getattr(last, server)
        last = replace(last, **{server: replace(sample, **{count: getattr(sample, count) + 2})})

    [found] = judge(at(0), [*soaked(), last], end=300, violations=[], log="")

    assert found.startswith(failure)


@pytest.mark.parametrize(
    ("violations", "log", "failure"),
    [
        (["stay: silence", "leave: cut"], "", "2 violations, the first: stay: silence"),
        ([], "Traceback (most recent call last):\n", "Traceback"),
        ([], "Exception ignored in: <generator>\n", "Exception ignored"),
        ([], "x.py:3: ResourceWarning: unclosed socket\n", "Warning:"),
    ],
)
def test_what_readers_and_the_log_tell_fails(violations: list[str], log: str, failure: str) -> None:
    [found] = judge(at(0), [*soaked(), at(310)], end=300, violations=violations, log=log)

    assert failure in found


@pytest.mark.parametrize(
    ("violations", "status", "told"),
    [([], 0, "written to"), (["stay: silence"], 1, "failed: 1 violations, the first: stay")],
)
def test_the_report_is_written_drawn_told_and_decides_the_exit_status(
    violations: list[str],
    status: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    log = tmp_path / "log"
    log.write_text("a client has left\n")
    console = Console(record=True, width=100, file=io.StringIO())
    result = Result(at(0), [*soaked(), at(310)], 300.0, Report(violations=violations))

    code = command.report(Options(300.0, 1, 60, 10.0), result, log, console)

    assert status == code
    text = console.export_text()
    assert told in text
    assert ("a client has left" in text) == bool(status)
    assert len(json.loads((tmp_path / "soak.json").read_bytes())["result"]["moments"]) == 302
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_a_soak_that_breaks_off_is_status_1_with_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_off(options: Options, log: Path, on_look: object) -> Result:
        log.write_text("the last words\n")
        raise RuntimeError("the proxy ended by itself")

    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "soak", break_off)

    code = command.main(["--minutes", "2"])

    told = capsys.readouterr().out
    assert code == 1
    assert "broke off: the proxy ended by itself" in told
    assert "the last words" in told


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--minutes", "1"],
        ["--minutes", "nan"],
        ["--minutes", "3", "--readers", "0"],
        ["--minutes", "inf"],
        ["--minutes", "3", "--retention", "4"],
        ["--minutes", "3", "--retention", "inf"],
        ["--minutes", "3", "--unknown"],
    ],
)
def test_bad_options_are_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)

    assert caught.value.code == 2
