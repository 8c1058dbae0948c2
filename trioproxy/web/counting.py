"""What a node does with its broker, counted for the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from trioproxy.cluster import (
    Batch,
    BrokerError,
    BrokerFull,
    BrokerRefused,
    Node,
    NodeWatch,
)
from trioproxy.fanout import Generation
from trioproxy.telemetry import ClusterFigures, NodeStanding


class Counting(NodeWatch):
    """Counts into ``figures``."""

    def __init__(self, figures: ClusterFigures) -> None:
        self._figures = figures

    def linked(self) -> None:
        self._figures.links += 1

    def failed(self, operation: str, error: BrokerError) -> None:
        self._figures.failed[operation, _kind_of(error)] += 1

    def elected(self, *, is_owner: bool) -> None:
        self._figures.elections["owner" if is_owner else "joined"] += 1

    def published(self, batches: Sequence[Batch], seconds: float) -> None:
        figures = self._figures
        figures.entries += len(batches)
        figures.payload_bytes += sum([len(data) for _, told in batches for _, data in told])
        figures.publish_delay.observe(seconds)

    def fenced(self, generation: Generation) -> None:
        self._figures.fenced += 1

    def restored(self, generation: Generation) -> None:
        self._figures.restored += 1

    def reaped(self) -> None:
        self._figures.reaped += 1


def standing_of(node: Node) -> NodeStanding:
    """How it stands now."""
    now = trio.current_time()
    since = [broker.up_since for broker in node.brokers]
    up_seconds = [None if when is None else now - when for when in since]
    return NodeStanding(up_seconds, node.leases, node.replicas)


def _kind_of(error: BrokerError) -> str:
    match error:
        case BrokerFull():
            return "full"
        case BrokerRefused():
            return "refused"
        case _:
            return "down"
