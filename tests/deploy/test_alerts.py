"""The alert rules: of metrics that there are, and, where promtool is installed, in its language."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trioproxy.fanout import open_hub
from trioproxy.telemetry import ClusterFigures, Gauges, Metrics, NodeStanding

RULES = Path(__file__).parents[2] / "deploy" / "alerts.yml"
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")


async def test_the_rules_name_metrics_that_there_are() -> None:
    metrics = Metrics()
    async with open_hub() as hub:
        metrics.observe(hub, Gauges(lambda: 0, lambda: 0, list, lambda: (0, 0, 0)))
        metrics.observe_cluster(ClusterFigures(), lambda: NodeStanding([None], 0, 0))
        exposed = metrics.expose().decode()
    families = [family.name for family in text_string_to_metric_families(exposed)]
    known = {family + suffix for family in families for suffix in SUFFIXES}

    named = set(re.findall(r"\b(?:trioproxy|gen_ai)_\w+", RULES.read_text()))

    assert len(named) > 14
    assert named <= known


def test_promtool_finds_no_fault() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
