"""What a node of a cluster has done with its broker, as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from trioproxy.telemetry.histogram import Histogram


class NodeStanding(NamedTuple):
    """How a node stands now. ``up_seconds`` is for how long its link to the broker has held, of
    each lane, None where there is none; ``leases`` what it owns, ``replicas`` what it follows."""

    up_seconds: Sequence[float | None]
    leases: int
    replicas: int


class ClusterFigures:
    """What a node has done so far, counted.

    ``publish_delay`` has one value for each write: from when there was something to be written to
    the broker's answer, in seconds. ``elections`` are by their result, ``failed`` by operation and
    error, ``replicas_ended`` by outcome and reason.
    """

    def __init__(self) -> None:
        self.links = 0
        self.elections = Counter[str]()
        self.failed = Counter[tuple[str, str]]()
        self.replicas_ended = Counter[tuple[str, str]]()
        self.entries = 0
        self.payload_bytes = 0
        self.publish_delay = Histogram()
        self.fenced = 0
        self.restored = 0
        self.reaped = 0


class ClusterState(Collector):
    """All of it, and how the node stands now."""

    def __init__(self, figures: ClusterFigures, standing: Callable[[], NodeStanding]) -> None:
        self._figures = figures
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        figures, (up_seconds, leases, replicas) = self._figures, self._standing()
        for name, text, value in (
            ("leases", "Generations that this node owns.", leases),
            ("replicas", "Generations of other nodes that this one follows.", replicas),
        ):
            yield GaugeMetricFamily(f"trioproxy_cluster_{name}", text, value)
        for name, text, number in (
            ("links", "Links to the broker that were made, the first one too.", figures.links),
            ("published_entries", "Entries that were written to logs.", figures.entries),
            ("published_bytes", "Payload of the events in them.", figures.payload_bytes),
            ("fenced", "Own generations for which this node was taken for dead.", figures.fenced),
            ("restored", "Own generations that the broker had lost.", figures.restored),
            ("reaped", "Generations that were ended as their owners were gone.", figures.reaped),
        ):
            yield CounterMetricFamily(f"trioproxy_cluster_{name}", text, number)
        yield from _of_lanes(up_seconds)
        yield from self._labelled()
        delay = figures.publish_delay
        yield HistogramMetricFamily(
            "trioproxy_cluster_publish_delay_seconds",
            "From when there was something to be written to the broker's answer, for each write.",
            buckets=delay.cumulative,
            sum_value=delay.sum,
        )

    def _labelled(self) -> Iterator[Metric]:
        elections = CounterMetricFamily(
            "trioproxy_cluster_elections",
            "Calls that may be shared, by who makes them.",
            labels=["result"],
        )
        for result, number in self._figures.elections.items():
            elections.add_metric([result], number)
        failed = CounterMetricFamily(
            "trioproxy_cluster_failed_operations",
            "What was asked of the broker in vain.",
            labels=["operation", "error"],
        )
        for labels, number in self._figures.failed.items():
            failed.add_metric(labels, number)
        ended = CounterMetricFamily(
            "trioproxy_cluster_replicas_ended",
            "Replicas that have ended.",
            labels=["outcome", "reason"],
        )
        for labels, number in self._figures.replicas_ended.items():
            ended.add_metric(labels, number)
        yield from (elections, failed, ended)


def _of_lanes(up_seconds: Sequence[float | None]) -> Iterator[Metric]:
    is_up = GaugeMetricFamily(
        "trioproxy_cluster_up", "Whether there is a link to the broker.", labels=["lane"]
    )
    is_down = GaugeMetricFamily(  # of processes that are summed, some may be
        "trioproxy_cluster_down", "Whether there is none.", labels=["lane"]
    )
    seconds = GaugeMetricFamily(
        "trioproxy_cluster_up_seconds",
        "For how long it has held; 0 where there is none.",
        labels=["lane"],
    )
    for lane, held in enumerate(up_seconds):
        is_up.add_metric([str(lane)], held is not None)
        is_down.add_metric([str(lane)], held is None)
        seconds.add_metric([str(lane)], held or 0.0)
    yield from (is_up, is_down, seconds)
