"""The guard under every test of this folder: what is left to the garbage collector fails a test."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

ROOT = Path(__file__).parents[2]

CARELESS = """
import socket

async def numbers():
    yield 1
    yield 2

async def test_that_leaves_a_generator_unfinished():
    async for _ in numbers():
        break

async def test_that_leaves_a_generator_unfinished_in_a_cycle():
    unfinished = numbers()
    cycle = [unfinished]
    cycle.append(cycle)
    await anext(unfinished)

async def test_that_leaves_a_socket_open():
    socket.socket()

async def test_that_leaves_a_socket_open_in_a_cycle():
    cycle = [socket.socket()]
    cycle.append(cycle)

async def test_that_forgets_to_await():
    numbers_of = test_that_leaves_a_socket_open
    numbers_of()

async def test_that_is_careful():
    with socket.socket():
        pass
"""


async def test_careless_tests_fail_and_careful_ones_pass(tmp_path: Path) -> None:
    (tmp_path / "test_careless.py").write_text(CARELESS)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")]
    options = ["-p", "tests.serving.conftest", "-p", "no:cacheprovider", "-q", "--tb=no", "-rA"]

    finished = await trio.run_process(
        [*command, *options, str(tmp_path)], cwd=ROOT, capture_stdout=True, check=False
    )

    report = finished.stdout.decode()
    passed = [line for line in report.splitlines() if line.startswith("PASSED")]
    assert len(passed) == 1, report
    assert passed[0].endswith("::test_that_is_careful")
    assert "5 failed, 1 passed" in report
