"""Runs the tests of each mutation on a copy of the tree, and prints which of them noticed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.mutations.catalogue import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
COPIED = ("trioproxy", "tests", "benchmarks", "pyproject.toml", "README.md", "docs")
IGNORED = shutil.ignore_patterns("__pycache__", "results")
HANG_SECONDS = 240.0
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


def main(words: Sequence[str]) -> int:
    chosen = [one for one in MUTATIONS if all(word in one.name for word in words)]
    console = Console()
    unnoticed = 0
    with tempfile.TemporaryDirectory() as directory:
        for mutation in track(chosen, "mutations", console=console):
            noticed_by = _try(mutation, Path(directory) / "copy")
            unnoticed += noticed_by is None
            story = f"{mutation.name}\n    {noticed_by or 'NOBODY NOTICED'}"
            console.print(story, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(chosen)} mutations, {unnoticed} unnoticed")
    return 1 if unnoticed else 0


def mutate(mutation: Mutation, package: Path) -> None:
    """Change the copy in ``package``. Raises :exc:`ValueError` where the text is not there once."""
    path = package / mutation.path
    code = path.read_text()
    if code.count(mutation.before) != 1:
        raise ValueError(f"{mutation.name}: its text is not once in {mutation.path}")
    path.write_text(code.replace(mutation.before, mutation.after))


def _try(mutation: Mutation, copy: Path) -> str | None:
    """The first test that fails; a run that hangs is one too."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=IGNORED)
        else:
            shutil.copy(source, copy / name)
    mutate(mutation, copy / "trioproxy")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
    try:
        run = subprocess.run(
            [*command, *mutation.tests],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the run, which hung for {HANG_SECONDS:.0f} s"
    failed = FAILED.search(run.stdout)
    return failed and failed[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
