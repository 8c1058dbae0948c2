"""What the proxy and the engine hold, looked at again and again."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.processes import Process
from benchmarks.sampling import Sample, fetch_census, fetch_json, take_sample


@dataclass(frozen=True, slots=True)
class Moment:
    """Proxy and engine at one time.

    Attributes:
        seconds: since the soak began.
        retained: generations that have ended and can still be read.
        transcript_bytes: what all generations, running and retained, have been sent.
        active_calls: at the engine.
    """

    seconds: float
    proxy: Sample
    engine: Sample
    retained: int
    transcript_bytes: int
    active_calls: int

    def above(self, baseline: Moment) -> dict[str, int]:
        """By how much each count is above the baseline's; empty if none is."""
        excess = {
            f"{server} {name}": count
            for server, now, then in (
                ("proxy", self.proxy, baseline.proxy),
                ("engine", self.engine, baseline.engine),
            )
            for name, count in now.above(then).items()
        }
        for name in ("retained", "transcript_bytes", "active_calls"):
            if (count := getattr(self, name) - getattr(baseline, name)) > 0:
                excess[name.replace("_", " ")] = count
        return excess


class Recorder:
    """Looks at both servers; ``moments`` are what it saw, oldest first."""

    def __init__(self, proxy: Process, engine: Process) -> None:
        self.moments: list[Moment] = []
        self._proxy = proxy
        self._engine = engine
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began

    def look(self) -> Moment:
        """Look now. The engine forgets its record of calls, which would only grow. Raises
        :exc:`OSError` where a server does not answer."""
        proxy, engine = self._proxy, self._engine
        census = fetch_census(proxy.url)
        moment = Moment(
            seconds=self.seconds,
            proxy=take_sample(proxy, census),
            engine=take_sample(engine, {}),
            retained=census["retained"],
            transcript_bytes=sum(
                generation["bytes"]
                for generation in fetch_json(f"{proxy.url}/v1/generations")["data"]
            ),
            active_calls=fetch_json(f"{engine.url}/stats")["active"],
        )
        fetch_json(f"{engine.url}/calls", method="DELETE")
        self.moments.append(moment)
        return moment
