"""One soak from the first baseline to the last look: three processes, and a look every second."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.processes import EXIT_SECONDS, ROOT, Process, run
from benchmarks.soak.behaviours import CREATE_LINGER_SECONDS
from benchmarks.soak.crowd import Report
from benchmarks.soak.recording import Moment, Recorder

LOOK_SECONDS = 1.0
STEADY_LOOKS = 3
WRITE_TIMEOUT_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
"""How long, after the last thing has to be gone, it may take until it is."""


@dataclass(frozen=True)
class Options:
    """What a soak is to be. Times in seconds; ``retention`` is the proxy's."""

    seconds: float
    seed: int
    readers: int
    retention: float


@dataclass(frozen=True)
class Result:
    """What a soak has seen. ``end`` is the second at which the readers left."""

    baseline: Moment
    moments: list[Moment]
    end: float
    report: Report


class Crowd:
    """The readers' process. ``report`` is the last that it gave."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.report = Report()
        self._child = child
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def leave(self) -> None:
        """Let all readers leave at once, and wait until they have. Raises :exc:`RuntimeError` where
        the crowd has crashed."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        status = self._child.wait(EXIT_SECONDS)
        self._listener.join()
        if status:
            raise RuntimeError(f"the crowd of readers crashed, with status {status}")

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self.report = msgspec.json.decode(line, type=Report)


@contextmanager
def open_crowd(proxy: Process, options: Options) -> Generator[Crowd]:
    """Let the readers in, as a process that does not outlive the block."""
    arguments = [proxy.host, proxy.port, options.readers, options.seed, options.retention]
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak.crowd", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        process_group=0,  # Ctrl-C is for us, and the crowd is sent home in good order
    )
    with child:
        try:
            yield Crowd(child)
        finally:
            child.kill()


def soak(options: Options, log: Path, on_look: Callable[[Moment, Report], None]) -> Result:
    """Run it. The proxy's stderr goes to ``log``; ``on_look`` is told of each look.

    Raises :exc:`RuntimeError` where a process ends by itself, :exc:`OSError` where one does not
    answer.
    """
    log.unlink(missing_ok=True)
    serve = [
        *("serve", "--bind", "127.0.0.1:0", "--debug", "--drain", "1"),
        *("--retention", str(options.retention)),
        *("--write-timeout", str(WRITE_TIMEOUT_SECONDS)),
        *("--heartbeat", str(HEARTBEAT_SECONDS)),
    ]
    with (
        run(["simulate", "--bind", "127.0.0.1:0"]) as engine,
        run([*serve, "--upstream", engine.url], log=log) as proxy,
    ):
        baseline = _wait_steady(Recorder(proxy, engine))
        recorder = Recorder(proxy, engine)
        with open_crowd(proxy, options) as crowd:
            while crowd.is_running and recorder.seconds < options.seconds:
                on_look(recorder.look(), crowd.report)
                time.sleep(LOOK_SECONDS)
            crowd.leave()
        end = recorder.seconds
        gone = end + options.retention + CREATE_LINGER_SECONDS + PATIENCE_SECONDS
        while (moment := recorder.look()).above(baseline) and recorder.seconds < gone:
            on_look(moment, crowd.report)
            time.sleep(LOOK_SECONDS)
        return Result(baseline, recorder.moments, end, crowd.report)


def _wait_steady(recorder: Recorder) -> Moment:
    """Look until three looks in a row find the same counts; return the last."""
    steady = 1
    before = recorder.look()
    while steady < STEADY_LOOKS:
        time.sleep(LOOK_SECONDS / 4)
        now = recorder.look()
        steady = 1 if now.above(before) or before.above(now) else steady + 1
        before = now
    return before
