"""One proxy for all examples, since most are through with it in half a second."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.commands import Proxy, Simulator, open_proxy, open_simulator


@pytest.fixture(scope="package")
def engine() -> Iterator[Simulator]:
    with open_simulator("--rate", "100") as simulator:
        yield simulator


@pytest.fixture(scope="package")
def _proxy(engine: Simulator) -> Iterator[Proxy]:
    with open_proxy(engine.url, "--drain", "1") as proxy:
        yield proxy


@pytest.fixture
async def proxy(_proxy: Proxy, engine: Simulator) -> AsyncIterator[Proxy]:
    """In front of `engine`. An example must leave both with nothing to do."""
    yield _proxy
    await engine.wait_active(0)
    await _proxy.wait_census({"generations": 0, "subscribers": 0, "upstream_calls": 0})
