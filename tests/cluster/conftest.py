"""The brokers that each test of the contract is run on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest

from tests.cluster.brokers import Shared, SharedServer, share, share_server
from tests.cluster.redis_cluster import RedisCluster, run_cluster
from tests.cluster.servers import FAMILIES, Server, run_server


@pytest.fixture(scope="session")
def redis_cluster() -> Generator[RedisCluster]:
    with run_cluster("valkey") as cluster:
        yield cluster


@pytest.fixture(scope="module", params=["fake", *FAMILIES, "cluster"])
def any_server(request: pytest.FixtureRequest) -> Generator[Server | RedisCluster | None]:
    match request.param:
        case "fake":
            yield None
        case "cluster":
            yield request.getfixturevalue("redis_cluster")
        case family:
            with run_server(family) as server:
                yield server


@pytest.fixture
async def shared(any_server: Server | RedisCluster | None) -> AsyncGenerator[Shared]:
    """A broker of each kind."""
    async with share(any_server) as shared:
        yield shared


@pytest.fixture(scope="module", params=FAMILIES)
def server(request: pytest.FixtureRequest) -> Generator[Server]:
    with run_server(request.param) as server:
        yield server


@pytest.fixture
async def shared_server(server: Server) -> AsyncGenerator[SharedServer]:
    """A server of each family."""
    async with share_server(server) as shared:
        yield shared
