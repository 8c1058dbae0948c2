"""The proxies that are measured, each started in front of an engine and looked at in one way."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.peers import litellm, nginx
from benchmarks.processes import Process, run
from benchmarks.sampling import Sample, fetch_census, take_sample

QUIET_POLL_SECONDS = 0.05


class Running:
    """A proxy that listens."""

    def __init__(self, process: Process, *, has_census: bool) -> None:
        self._process = process
        self._has_census = has_census
        self.host, self.port, self.url = process.host, process.port, process.url

    @property
    def pids(self) -> list[int]:
        """All its processes, now."""
        return self._process.pids

    def sample(self) -> Sample:
        """What it holds and has cost by now. Raises :exc:`OSError` where its census is silent."""
        return take_sample(self._process, fetch_census(self.url) if self._has_census else {})

    def wait_quiet(self, baseline: Sample, seconds: float) -> Sample:
        """Wait until every count is back at the baseline, for so many seconds at most.

        The last sample is returned in either case: see :meth:`Sample.above`.
        """
        deadline = time.monotonic() + seconds
        while (sample := self.sample()).above(baseline) and time.monotonic() < deadline:
            time.sleep(QUIET_POLL_SECONDS)
        return sample


@dataclass(frozen=True)
class Target:
    """A proxy that can be measured.

    Attributes:
        name: what it is called on the command line and in tables.
        shares: clients that ask for it (``X-Fanout: replay``) share one call upstream.
        resumes: a client can come back with ``Last-Event-ID``.
        has_census: it serves ``GET /debug/census`` as trioproxy does.
        missing: why it cannot run on this machine; None where it can.
        launch: start it in front of the engine at this URL.
    """

    name: str
    shares: bool
    resumes: bool
    has_census: bool
    missing: Callable[[], str | None]
    launch: Callable[[str], AbstractContextManager[Process]]

    @contextmanager
    def open(self, engine_url: str) -> Generator[Running]:
        """Run it in front of the engine for the length of the block."""
        with self.launch(engine_url) as process:
            yield Running(process, has_census=self.has_census)


def run_trioproxy(engine_url: str, options: Sequence[str] = ()) -> AbstractContextManager[Process]:
    """Run trioproxy in front of the engine, with limits that any benchmark fits in, and with these
    options besides."""
    return run(
        [
            *("serve", "--bind", "127.0.0.1:0", "--upstream", engine_url),
            *("--debug", "--drain", "1", "--max-generations", "10000"),
            *("--max-transcript", "256MiB", "--max-loop-lag", "inf", *options),
        ]
    )


def _run_starlette(engine_url: str) -> AbstractContextManager[Process]:
    return run([engine_url], module="benchmarks.peers.starlette_app")


def _run_quart(engine_url: str) -> AbstractContextManager[Process]:
    return run([engine_url], module="benchmarks.peers.quart_app")


def _missing_modules(*names: str) -> str | None:
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (the extra 'bench')" if absent else None


TARGETS = {
    target.name: target
    for target in (
        Target(
            "trioproxy",
            shares=True,
            resumes=True,
            has_census=True,
            missing=lambda: None,
            launch=run_trioproxy,
        ),
        Target(
            "quart",
            shares=True,
            resumes=False,
            has_census=True,
            missing=lambda: None,
            launch=_run_quart,
        ),
        Target(
            "starlette",
            shares=False,
            resumes=False,
            has_census=False,
            missing=partial(_missing_modules, "starlette", "uvicorn"),
            launch=_run_starlette,
        ),
        Target(
            "nginx",
            shares=False,
            resumes=False,
            has_census=False,
            missing=nginx.missing,
            launch=nginx.launch,
        ),
        Target(
            "litellm",
            shares=False,
            resumes=False,
            has_census=False,
            missing=litellm.missing,
            launch=litellm.launch,
        ),
    )
}
