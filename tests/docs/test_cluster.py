"""What docs/cluster.md says of settings and metrics is so."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from trioproxy.config import SETTINGS, load_settings
from trioproxy.telemetry import ClusterFigures, Metrics, NodeStanding

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_the_file_is_read(tmp_path: Path) -> None:
    page = (DOCS / "cluster.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "proxy.toml"
    file.write_text(text, encoding="utf-8")

    settings = load_settings(flags={}, environ={}, file=file)

    assert settings.cluster == "redis://trioproxy:secret@broker:6379"


def test_every_setting_of_a_cluster_is_told_with_its_default() -> None:
    page = (DOCS / "cluster.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \| (\S*) ?\|", page, re.MULTILINE)

    told = {(key, flag, default.strip("`")) for key, flag, default in rows}

    assert told == {
        (each.key, each.flag, "" if each.default is None else f"{each.default:g}")
        if isinstance(each.default, float)
        else (each.key, each.flag, each.default or "")
        for each in SETTINGS.values()
        if each.table == "cluster"
    }


def test_every_metric_of_a_cluster_is_told() -> None:
    metrics = Metrics()
    metrics.observe_cluster(ClusterFigures(), lambda: NodeStanding([None], 0, 0))
    exposed = text_string_to_metric_families(metrics.expose().decode())
    there = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in exposed
        if family.name.startswith("trioproxy_cluster_")
    }

    told = re.findall(r"`(trioproxy_cluster_\w+)`", (DOCS / "observability.md").read_text())

    assert sorted(told) == sorted(there)
