"""How long the suite searches, which of its tests run beside which, and what it says at its end of
how hard it tried."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.exhaustive.tally import tally

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

settings.register_profile("long", print_blob=True)
if "HYPOTHESIS_PROFILE" in os.environ:
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])

TESTS = Path(__file__).parent
IN_REAL_TIME = (
    "benchmarks",
    "client",
    "clients",
    "deploy",
    "docs",
    "e2e",
    "serving",
    "test_cli.py",
    "test_demo.py",
    "web/test_hostile_sockets.py",
)
"""What waits for clocks, processes and other programs, and so never runs beside its like."""

TALLY = "tally"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(IN_REAL_TIME):
            item.add_marker(pytest.mark.xdist_group("in real time"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist
        session.config.workeroutput[TALLY] = tally.as_dict()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    tally.add(node.workeroutput[TALLY])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if tally.checkpoints or tally.faults or tally.programs:
        violations = sum(
            "exhaustive" in report.nodeid for report in terminalreporter.getreports("failed")
        )
        terminalreporter.write_line(
            f"cancelled at {tally.checkpoints:,} checkpoints, failed at {tally.faults:,} I/Os, "
            f"played {tally.programs:,} random programs: {violations} violations"
        )
