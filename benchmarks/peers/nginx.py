"""nginx in the foreground, in a temporary directory, configured by a file beside this module."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from benchmarks.processes import Process, free_port, run_program


def missing() -> str | None:
    """Why it cannot run here, or None."""
    return None if shutil.which("nginx") else "nginx is not installed (Debian package: nginx)"


def launch(engine_url: str) -> AbstractContextManager[Process]:
    """Run it as a proxy in front of the engine for the length of the block."""
    return run_nginx("nginx.conf", engine=urlsplit(engine_url).netloc)


@contextmanager
def run_nginx(configuration: str, **values: str) -> Generator[Process]:
    """Run nginx with one of the configurations beside this module for the length of the block; the
    values, a port, a directory and the most files are filled in."""
    port = free_port()
    _, max_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    template = Template(Path(__file__).with_name(configuration).read_text())
    with tempfile.TemporaryDirectory(prefix="nginx-") as directory:
        Path(directory).chmod(0o711)  # its worker is another user where nginx is started by root
        path = Path(directory, configuration)
        path.write_text(
            template.substitute(values, directory=directory, port=port, files=max_files)
        )
        with run_program(["nginx", "-p", directory, "-c", str(path)], port) as process:
            yield process
