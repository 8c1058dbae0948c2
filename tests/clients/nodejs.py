"""Node, and the programs in `node/` that use clients from npm as people do."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

PROGRAMS = Path(__file__).parent / "node"

_OLDEST = 20  # the oldest release that the packages say they run on
_INSTALL_SECONDS = 240.0
_RUN_SECONDS = 30.0
_LOCK = "package-lock.json"


def why_unavailable() -> str | None:
    """What this machine lacks, or None if it has Node and npm."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    major = int(version.stdout.removeprefix("v").split(".")[0])
    return None if major >= _OLDEST else f"node is {version.stdout.strip()}, not {_OLDEST} or newer"


def install(folder: Path) -> str | None:
    """Copy the programs to `folder`, and install beside them exactly what their lock file says,
    unless that has been done. Return why it could not be."""
    lock = (PROGRAMS / _LOCK).read_bytes()
    installed = folder / "node_modules" / _LOCK  # a copy, which says that all of it is there
    if not (installed.exists() and installed.read_bytes() == lock):
        for name in ("package.json", _LOCK):
            shutil.copy(PROGRAMS / name, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
                timeout=_INSTALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"npm ci has not ended within {_INSTALL_SECONDS:g} s"
        except subprocess.CalledProcessError as error:
            return f"npm ci failed: {error.stdout.strip()}"
        installed.write_bytes(lock)
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    return None


@dataclass(frozen=True, slots=True)
class Node:
    """Node, with the programs and their packages in `folder`."""

    folder: Path

    async def run(self, program: str, *, within: float = _RUN_SECONDS, **parameters: Any) -> Any:
        """Run a program to its end, and return what it printed. If cancelled, it is terminated.

        Raises:
            trio.TooSlowError: it has not ended within so many seconds.
        """
        path = self.folder / f"{program}.mjs"
        with trio.fail_after(within):
            ended = await trio.run_process(
                ["node", str(path), json.dumps(parameters)],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        assert ended.returncode == 0, ended.stderr.decode()
        return json.loads(ended.stdout)
