"""How long the suite searches, which of its tests run beside which, and what it says at its end of
how hard it tried."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.exhaustive.tally import tally

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

settings.register_profile("long", print_blob=True)
if "HYPOTHESIS_PROFILE" in os.environ:
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])

IN_REAL_TIME = (
    "tests/attacks/test_slowness.py",
    "tests/benchmarks/",
    "tests/client/",
    "tests/clients/",
    "tests/cluster/",
    "tests/deploy/",
    "tests/docs/",
    "tests/e2e/",
    "tests/gateways/",
    "tests/page/",
    "tests/serving/",
    "tests/test_cli.py",
    "tests/test_demo.py",
    "tests/web/test_hostile_sockets.py",
    "tests/web/test_shared_limits.py",
)
"""What waits for clocks, processes and other programs, and so never runs beside its like."""

TALLY = "tally"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    from xdist.scheduler import LoadScopeScheduling  # who runs one test alone may not have it

    class RealTimeApart(LoadScopeScheduling):
        """All that runs in real time goes to one process, test after test; the others take from
        what is left whenever they are free."""

        def _split_scope(self, nodeid: str) -> str:
            return "in real time" if nodeid.startswith(IN_REAL_TIME) else nodeid

    return RealTimeApart(config, log)


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
