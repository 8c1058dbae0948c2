"""Two proxies that are nodes of one cluster, in front of an upstream that the test plays."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.servers import Server
from tests.web.service import Service, open_service, wait_until
from trioproxy.testing.upstream import ScriptedUpstream, open_upstream
from trioproxy.web.clustered import Cluster


@dataclass(frozen=True)
class Pair:
    """``one`` and ``two`` are the proxies."""

    one: Service
    two: Service
    upstream: ScriptedUpstream


def cluster_of(service: Service) -> Cluster:
    places = service.proxy._holdings.places
    assert isinstance(places, Cluster)
    return places


def node_of(service: Service) -> str:
    """What the node is called by others."""
    return cluster_of(service).node.name


def make_deaf(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a node do nothing of what others ask, and seem to live."""
    for lane in cluster_of(service).node._lanes:
        monkeypatch.setattr(lane.surveys, "hear", lambda letter: None)


@asynccontextmanager
async def open_pair(
    server: Server, *, headers: dict[str, str] | None = None, **settings: Any
) -> AsyncGenerator[Pair]:
    """Both know of each other, as is told by who sends these headers. The settings are those of
    both."""
    async with (
        open_upstream() as upstream,
        open_service(upstream.url, cluster=server.url, **settings) as one,
        open_service(upstream.url, cluster=server.url, **settings) as two,
    ):
        await wait_acquainted(one, two, headers=headers)
        yield Pair(one, two, upstream)


async def wait_acquainted(*services: Service, headers: dict[str, str] | None = None) -> None:
    """Wait until each node knows of all."""

    async def are_acquainted() -> bool:
        listings = [await list_cluster(service, headers) for service in services]
        return all(len(listing["nodes"]) == len(services) for listing in listings)

    await wait_until(are_acquainted)


async def list_cluster(service: Service, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What a node tells of all that runs."""
    answer = await service.http.get("/v1/generations?scope=cluster", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()
