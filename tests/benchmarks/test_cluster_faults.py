"""The command that does faults to a cluster, on real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cluster_faults import main


@pytest.mark.parametrize(
    "arguments", [["--fault", "flood"], ["--repetitions", "0"], ["--lease", "0"]]
)
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)

    assert exit_.value.code == 2


def test_a_fault_is_done_and_told(tmp_path: Path) -> None:
    chosen = ["last reader leaves", "owner killed"]

    main(
        [
            "--repetitions",
            "1",
            "--lease",
            "1",
            "--output",
            str(tmp_path),
            "--fault",
            ",".join(chosen),
        ]
    )

    written = json.loads(tmp_path.joinpath("cluster-faults.json").read_bytes())
    assert written["failures"] == []
    assert {name: len(rounds) for name, rounds in written["rounds"].items()} == dict.fromkeys(
        chosen, 1
    )
    assert all(round_["wrong"] == [] for rounds in written["rounds"].values() for round_ in rounds)
    assert tmp_path.joinpath("cluster-faults.png").exists()
