"""What a hub's generations are watched by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from trioproxy.fanout import Generation, Watch
from trioproxy.telemetry.metrics import Metrics
from trioproxy.telemetry.timing import Listener, Origin, Timing


class Telemetry:
    """The metrics of a hub, and what makes the :class:`Timing` of each of its generations: give
    ``watch`` to :func:`~trioproxy.fanout.open_hub`. ``listeners`` are told beside the metrics."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self.metrics = Metrics()
        self._listeners = (self.metrics, *listeners)

    def tell(self, listener: Listener) -> None:
        """Tell this one too what happens to generations that begin from now on."""
        self._listeners = (*self._listeners, listener)

    def watch(self, generation: Generation) -> Watch:
        """The watch of a generation whose origin has what is measured (:class:`Origin`)."""
        origin = cast(Origin, generation.origin)
        return Timing(generation, origin, self._listeners, self.metrics.delivery_delay)


def timing_of(generation: Generation) -> Timing:
    """The timing of a generation whose hub is watched by a :class:`Telemetry`."""
    assert isinstance(generation.watch, Timing)
    return generation.watch
