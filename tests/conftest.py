"""How long the suite searches, and what it says at its end of how hard it tried."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.exhaustive.tally import tally

settings.register_profile("long", print_blob=True)
if "HYPOTHESIS_PROFILE" in os.environ:
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if tally.checkpoints or tally.faults or tally.programs:
        violations = sum(
            "exhaustive" in report.nodeid for report in terminalreporter.getreports("failed")
        )
        terminalreporter.write_line(
            f"cancelled at {tally.checkpoints:,} checkpoints, failed at {tally.faults:,} I/Os, "
            f"played {tally.programs:,} random programs: {violations} violations"
        )
