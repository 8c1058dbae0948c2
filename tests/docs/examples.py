"""The examples of the documents: blocks of code under a marker that names them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

DOCS = Path(__file__).parents[2] / "docs"
PRINTED = "localhost:9010"
EXAMPLE = re.compile(r"<!-- ([\w: ]+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```\w+$", re.MULTILINE)

RUN_SECONDS = 20.0


class Example(NamedTuple):
    """A block of code, and the language that it is in."""

    language: str
    text: str


def examples_of(document: str) -> dict[str, Example]:
    """Every example of a document, by name; a block without a name is an error."""
    text = (DOCS / document).read_text()
    examples = {name: Example(language, body) for name, language, body in EXAMPLE.findall(text)}
    assert len(examples) == len(FENCE.findall(text))
    return examples


async def run(example: Example, url: str, folder: Path) -> str:
    """Run an example as its reader would, against the proxy at `url`; what it prints. Skips where
    there is nothing to run it with, and fails in CI."""
    program = example.text.replace(PRINTED, url.removeprefix("http://"))
    command = _COMMANDS[example.language](program, folder)
    with trio.fail_after(RUN_SECONDS):
        ended = await trio.run_process(
            command,
            cwd=folder,
            env=os.environ | {"no_proxy": "*", "PYTHONUTF8": "1"},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert ended.returncode == 0, f"{ended.stdout.decode()}\n{ended.stderr.decode()}"
    return ended.stdout.decode()


def _shell(program: str, folder: Path) -> list[str | Path]:
    _require("curl")
    return ["bash", "-euo", "pipefail", "-c", program]


def _python(program: str, folder: Path) -> list[str | Path]:
    (folder / "example.py").write_text(program)
    return [sys.executable, "example.py"]


def _javascript(program: str, folder: Path) -> list[str | Path]:
    """With what browsers have, which Node 20 has on request."""
    node = _require("node")
    (folder / "example.mjs").write_text(program)
    return [node, "--no-warnings", *_BROWSER, "example.mjs"]


_BROWSER = ["--experimental-eventsource", "--experimental-websocket"]
_COMMANDS: dict[str, Callable[[str, Path], list[str | Path]]] = {
    "sh": _shell,
    "python": _python,
    "js": _javascript,
}


def _require(program: str) -> str:
    path = shutil.which(program)
    if path is None and "CI" in os.environ:
        pytest.fail(f"{program} is not installed")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path
