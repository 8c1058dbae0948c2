"""The command that measures what nodes cost that share generations."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.sharing import main


def test_a_node_alone_and_two_that_share_are_measured(tmp_path: Path) -> None:
    arguments = ["--generations", "3", "--rounds", "1", "--seconds", "1", "--settle", "0.2"]

    assert main([*arguments, "--output", str(tmp_path)]) == 0

    written = json.loads(tmp_path.joinpath("sharing.json").read_bytes())
    assert written["failures"] == []
    for name in ("alone", "owner", "replica"):
        (round_,) = written["rounds"][name]
        assert round_["seen"]["lost"] == 0
        assert round_["seen"]["events"] > 0
    assert tmp_path.joinpath("sharing.png").exists()
