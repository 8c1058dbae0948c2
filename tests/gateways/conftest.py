"""One engine, one proxy in front of it, and one LiteLLM that calls both."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from benchmarks.peers import litellm as peer
from benchmarks.processes import Process
from tests.e2e.commands import Command, Simulator, open_simulator
from tests.gateways.standing import open_litellm, open_proxy_of_litellm


@pytest.fixture(scope="package")
def _engine() -> Iterator[Simulator]:
    """Skips where LiteLLM is not installed, fails in CI."""
    if reason := peer.missing():
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    with open_simulator("--rate", "100", "--ttft", "0", "--tokens", "20") as engine:
        yield engine


@pytest.fixture
async def engine(_engine: Simulator) -> AsyncIterator[Simulator]:
    """A test must leave it with nothing to do."""
    yield _engine
    await _engine.wait_active(0, within=10)


@pytest.fixture(scope="package")
def inner(_engine: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The proxy that LiteLLM comes to."""
    hasty = ["--heartbeat", "0.1", "--commit-after", "0.05", "--upstream-keep-alive", "0"]
    folder = tmp_path_factory.mktemp("inner")
    with open_proxy_of_litellm(_engine.url, folder, *hasty) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def litellm(_engine: Simulator, inner: Command) -> Iterator[Process]:
    with open_litellm(engine_url=_engine.url, proxy_url=inner.url) as process:
        yield process
