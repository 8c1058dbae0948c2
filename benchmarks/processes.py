"""The simulated engine and the proxy, each a process of its own, for the length of a block."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

EXIT_SECONDS = 10.0


class Process:
    """A command of trioproxy's that listens. ``host`` and ``port`` are where."""

    def __init__(self, process: subprocess.Popen[bytes], announcement: str) -> None:
        self.pid = process.pid
        address = re.search(r"http://([^:]+):(\d+)", announcement)
        if address is None:
            raise RuntimeError(f"no address in {announcement!r}")
        self.host, self.port = address[1], int(address[2])

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time so far (proc(5), stat: fields 14 and 15, in ticks of 10 ms)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def run(command: Sequence[str]) -> Generator[Process]:
    """Run ``python -m trioproxy COMMAND`` until it listens; end exactly that process on exit."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trioproxy", *command], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            yield Process(process, process.stdout.readline().decode())
    finally:
        process.terminate()
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
