"""The churn of a cluster: what counts as a violation, and a short run on real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cluster.calls import Call
from benchmarks.cluster.invariants import Visit, doubled_calls, unread_calls, wrong_endings
from benchmarks.cluster.reader import LEFT, REFUSED
from benchmarks.cluster.trouble import Trouble, Troubles
from benchmarks.cluster_churn import main
from benchmarks.soak.questions import COMPLETED

QUIET = Troubles(2.0)
TROUBLED = Troubles(2.0, [Trouble("node killed", began_at=10, undone_at=12, recovered_at=13)])
"""From 10 to 15, with what it led to."""


@pytest.mark.parametrize(
    ("ending", "begun_at", "is_wrong"),
    [
        (COMPLETED, 0, False),
        (LEFT, 0, False),
        ("owner_lost", 0, True),
        ("owner_lost", 12, False),
        (REFUSED, 14, False),
        (REFUSED, 16, True),
        ("overtaken", 12, True),
    ],
)
def test_a_failure_is_wrong_without_trouble(ending: str, begun_at: float, is_wrong: bool) -> None:
    visit = Visit("prompt", begun_at, begun_at + 1, ending)

    assert is_wrong == bool(list(wrong_endings([visit], TROUBLED)))


def test_two_calls_beside_each_other_are_wrong_without_trouble() -> None:
    first, second = Call(0, "prompt", "completed", 5, 20), Call(1, "prompt", "active", 16, None)

    assert list(doubled_calls([second, first], QUIET))
    assert not list(doubled_calls([second, first], TROUBLED))
    assert not list(doubled_calls([first, Call(0, "prompt", "completed", 20.1, 21)], QUIET))
    assert not list(doubled_calls([first, Call(0, "other", "completed", 16, 21)], QUIET))


@pytest.mark.parametrize(
    ("visits", "troubles", "is_wrong"),
    [
        ([(4, 9)], QUIET, False),
        ([(4, 7), (6, 9)], QUIET, False),
        ([(4, 6)], QUIET, True),
        ([(4, 5.5), (8, 9)], QUIET, True),
        ([], QUIET, True),
        ([(4, 6)], Troubles(2.0, [Trouble("node killed", 6, 7, 8)]), False),
    ],
)
def test_a_call_that_nobody_reads_is_wrong(
    visits: list[tuple[float, float]], troubles: Troubles, is_wrong: bool
) -> None:
    call = Call(0, "prompt", "aborted", 4.1, 9)
    seen = [Visit("prompt", begun_at, ended_at, LEFT) for begun_at, ended_at in visits]

    found = list(unread_calls([call], seen, troubles, judged=2.5, now=20))

    assert is_wrong == bool(found)


def test_a_short_run_is_told(tmp_path: Path) -> None:
    size = ["--minutes", "0.05", "--readers", "6", "--every", "1", "--lease", "1", "--leave-keys"]

    main([*size, "--output", str(tmp_path)])

    written = json.loads(tmp_path.joinpath("cluster-churn.json").read_bytes())
    findings = written["findings"]
    assert written["plan"]["readers"] == 6
    assert len(findings["visits"]) > 6
    assert findings["troubles"]
    assert findings["looks"]
    assert tmp_path.joinpath("cluster-churn.png").exists()
