"""systemd's units, the container and what is beside it: as far as that can be checked without
them running."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.fronts import DEPLOY, program
from tests.e2e.commands import open_proxy
from trioproxy.config import load_settings

ROOT = DEPLOY.parent
INSTALLED = "/opt/trioproxy/bin/trioproxy"
UNITS = ["trioproxy.service", "trioproxy.socket"]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, of a program that is installed here."""
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace(INSTALLED, sys.executable))
    return tmp_path


def test_systemd_finds_no_fault(units: Path) -> None:
    analyze = program("systemd-analyze")

    checked = subprocess.run(
        [analyze, "verify", "--man=no", *(units / name for name in UNITS)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_service_is_let_do_little(units: Path) -> None:
    analyze = program("systemd-analyze")

    looked_at = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", units / "trioproxy.service"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert looked_at.returncode == 0, looked_at.stdout


def test_stopping_gets_longer_than_the_drain_takes() -> None:
    told = re.search(r"^TimeoutStopSec=(\d+)$", (DEPLOY / UNITS[0]).read_text(), re.MULTILINE)
    composed = re.search(r"stop_grace_period: (\d+)s", (DEPLOY / "compose.yaml").read_text())
    assert told is not None
    assert composed is not None

    assert int(told[1]) == int(composed[1]) > load_settings(flags={}, environ={}, file=None).drain


def test_what_the_composition_sets_are_settings() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    environ = dict(re.findall(r"^ +(TRIOPROXY_\w+): (\S+)$", text, re.MULTILINE))

    settings = load_settings(flags={}, environ=environ, file=None)

    assert (settings.upstream, settings.trusted_proxies) == ("http://engine:8080", "127.0.0.1")


def test_what_the_container_is_built_of_is_there() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE)

    sources = [source for line in copied for source in line.split()]

    assert sources == ["pyproject.toml", "README.md", "LICENSE", "trioproxy"]
    assert all((ROOT / source).exists() for source in sources)


def test_the_container_is_healthy_while_the_proxy_lives() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    found = re.search(r"^ +CMD (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    _, *arguments = json.loads(found[1])

    with open_proxy("http://127.0.0.1:1") as proxy:
        here = [each.replace("http://127.0.0.1:9010", proxy.url) for each in arguments]
        alive = subprocess.run([sys.executable, *here], capture_output=True, timeout=10)
    gone = subprocess.run([sys.executable, *here], capture_output=True, timeout=10)

    assert here != arguments
    assert (alive.returncode, gone.returncode) == (0, 1), alive.stderr
