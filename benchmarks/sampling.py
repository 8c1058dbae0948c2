"""What a server holds and costs at a moment, and at worst over a time.

A sample's system figures come from /proc, of the server's whole process tree; the others from its
census (``GET /debug/census``), where it has one.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from benchmarks.processes import Process

ANSWER_SECONDS = 30.0

COUNTS = ("tasks", "fds", "subscribers", "generations", "upstream_calls", "connections")
"""What must be back at its baseline when all clients have left."""

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A server at a moment. A figure of the census is None where the server has none.

    Attributes:
        at: seconds since the epoch.
        cpu_seconds: user and system time since the process began.
        tasks: Trio tasks; those of the connection that asked for the census are among them, as it
            is itself among ``connections`` and its socket among ``fds``.
    """

    at: float
    fds: int
    rss_bytes: int
    cpu_seconds: float
    tasks: int | None = None
    subscribers: int | None = None
    generations: int | None = None
    upstream_calls: int | None = None
    connections: int | None = None

    def above(self, baseline: Sample) -> dict[str, int]:
        """By how much each count is above the baseline's; empty if none is."""
        excess: dict[str, int] = {}
        for name in COUNTS:
            now, then = getattr(self, name), getattr(baseline, name)
            if now is not None and then is not None and now > then:
                excess[name] = now - then
        return excess


def take_sample(process: Process, census: Mapping[str, int]) -> Sample:
    """Look at a server now; ``census`` is what it has just told of itself, {} if nothing.

    The file descriptors are those of the census, where it has them, so that all counts are of one
    moment.
    """
    figures = {name: census[name] for name in COUNTS if name in census}
    if "fds" not in figures:
        figures["fds"] = process.fds()
    return Sample(
        at=time.time(),
        rss_bytes=process.rss_bytes(),
        cpu_seconds=process.cpu_seconds(),
        **figures,
    )


def fetch_census(url: str) -> dict[str, int]:
    """The census of the server at ``url``. Raises :exc:`OSError` where it has not come in 30 s."""
    return fetch_json(f"{url}/debug/census")


def fetch_json(url: str, *, method: str = "GET") -> Any:
    """What a server answers, over a connection of its own and never by way of a proxy of the
    environment. Raises :exc:`OSError` for an error status, and after 30 s."""
    request = urllib.request.Request(url, method=method)
    with _DIRECTLY.open(request, timeout=ANSWER_SECONDS) as response:
        return json.load(response)


def peak(samples: list[Sample]) -> Sample:
    """The most of each figure, whenever that was; ``at`` is the last sample's.

    Raises :exc:`ValueError` for no samples.
    """
    rows = [asdict(sample) for sample in samples]
    if not rows:
        raise ValueError("there is no peak of no samples")
    most: dict[str, float | None] = {
        name: max((row[name] for row in rows if row[name] is not None), default=None)
        for name in rows[0]
    }
    return Sample(**most)  # type: ignore[arg-type]


class Sampler:
    """Samples in a thread of its own, every ``interval`` seconds while the block lasts.

    Attributes:
        samples: what was seen, oldest first; the first is taken on entry, the last on exit.

    What a sample raises ends the thread and is raised again at the end of the block.
    """

    def __init__(self, sample: Callable[[], Sample], interval: float) -> None:
        self.samples: list[Sample] = []
        self._sample = sample
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: Exception | None = None

    @property
    def peak(self) -> Sample:
        """The most of each figure so far."""
        return peak(self.samples)

    def __enter__(self) -> Self:
        self.samples.append(self._sample())
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if exc_value is None:
            if self._failure is not None:
                raise self._failure
            self.samples.append(self._sample())

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._interval):
                self.samples.append(self._sample())
        except Exception as error:
            self._failure = error
