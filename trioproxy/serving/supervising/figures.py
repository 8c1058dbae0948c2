"""The metrics of all workers, as those of one process."""

from __future__ import annotations

import trio

from trioproxy.serving.supervising.crew import Crew, Employee
from trioproxy.telemetry import counted, sum_expositions

MOST_BYTES = 4 * 1024 * 1024

_OWN = """\
# HELP trioproxy_workers Processes that serve.
# TYPE trioproxy_workers gauge
trioproxy_workers {workers}
# HELP trioproxy_worker_restarts_total Those that ended by themselves; others came.
# TYPE trioproxy_worker_restarts_total counter
trioproxy_worker_restarts_total {restarts}
"""


class Figures:
    """The sum of what the workers tell, and of what those have counted that are gone."""

    def __init__(self) -> None:
        self._past = b""

    def remember(self, worker: Employee) -> None:
        """It has ended: what it had counted counts on. Without this a restart would look as if
        all had begun anew, and Prometheus would count the rest twice. It looks so all the same
        when too much has come together: labels are bounded for each worker, not for all that there
        ever were."""
        past = counted(worker.figures)
        if len(self._past) > MOST_BYTES:
            self._past = b""
        self._past = sum_expositions([self._past, past])

    async def gather(self, crew: Crew) -> bytes:
        """What all have counted, and how it is with them now. One that does not answer in
        time counts as when it last did."""
        async with trio.open_nursery() as nursery:
            for worker in crew.workers:
                nursery.start_soon(worker.tell_figures)
        own = _OWN.format(
            workers=sum(worker.is_ready for worker in crew.workers), restarts=crew.restarts
        )
        told = [worker.figures for worker in crew.workers]
        return sum_expositions([self._past, *told, own.encode()])
