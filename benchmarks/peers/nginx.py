"""nginx in the foreground, in a temporary directory, configured by the file beside this module."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from benchmarks.processes import Process, free_port, run_program

CONFIGURATION = Template(Path(__file__).with_suffix(".conf").read_text())


def missing() -> str | None:
    """Why it cannot run here, or None."""
    return None if shutil.which("nginx") else "nginx is not installed (Debian package: nginx)"


@contextmanager
def launch(engine_url: str) -> Generator[Process]:
    """Run it in front of the engine for the length of the block."""
    port = free_port()
    _, max_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory(prefix="nginx-") as directory:
        Path(directory).chmod(0o711)  # its worker is another user where nginx is started by root
        configuration = Path(directory, "nginx.conf")
        configuration.write_text(
            CONFIGURATION.substitute(
                directory=directory,
                port=port,
                engine=urlsplit(engine_url).netloc,
                files=max_files,
            )
        )
        with run_program(["nginx", "-p", directory, "-c", str(configuration)], port) as process:
            yield process
