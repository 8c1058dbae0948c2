"""Engines and the proxies in front of them, one of each for the whole session."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.commands import Proxy, Simulator, open_proxy, open_simulator
from tests.e2e.llama import LlamaServer, open_llama, why_unavailable


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `fast.gguf` and `slow.gguf`; skips where llama.cpp cannot run, fails in CI."""
    if reason := why_unavailable():
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    # Imported late: it needs packages whose absence is a reason to skip.
    from tests.e2e.tiny_gguf import write_model

    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "fast.gguf")
    write_model(folder / "slow.gguf", layers=20, ff=2048, ctx=131_072, eos=0)
    return folder


@pytest.fixture(scope="session")
def llama(models: Path) -> Iterator[LlamaServer]:
    """A fast engine whose text ends by itself; 4 slots of 1,024 tokens: for what is streamed."""
    with open_llama(models / "fast.gguf") as server:
        yield server


@pytest.fixture(scope="session")
def slow_llama(models: Path) -> Iterator[LlamaServer]:
    """An engine of about 300 tokens a second whose text never ends; 4 slots: for who leaves it."""
    with open_llama(models / "slow.gguf", ctx=16_384) as server:
        yield server


@pytest.fixture(scope="session")
def _proxy(llama: LlamaServer) -> Iterator[Proxy]:
    with open_proxy(llama.url, "--drain", "1") as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _slow_proxy(slow_llama: LlamaServer) -> Iterator[Proxy]:
    with open_proxy(slow_llama.url, "--drain", "1") as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _simulated_proxy(simulator: Simulator) -> Iterator[Proxy]:
    with open_proxy(simulator.url, "--drain", "1") as proxy:
        yield proxy


@pytest.fixture
async def proxy(_proxy: Proxy, llama: LlamaServer) -> AsyncIterator[Proxy]:
    """In front of `llama`. A test must leave both as they were."""
    yield _proxy
    await llama.wait_processing(0)
    await _proxy.wait_at_rest()


@pytest.fixture
async def slow_proxy(_slow_proxy: Proxy, slow_llama: LlamaServer) -> AsyncIterator[Proxy]:
    """In front of `slow_llama`. A test must leave both as they were."""
    yield _slow_proxy
    await slow_llama.wait_processing(0)
    await _slow_proxy.wait_at_rest()


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """A simulated engine whose answers take half an hour."""
    with open_simulator("--rate", "50", "--tokens", "100000") as simulator:
        yield simulator


@pytest.fixture
async def simulated_proxy(_simulated_proxy: Proxy, simulator: Simulator) -> AsyncIterator[Proxy]:
    """In front of `simulator`. A test must leave both as they were."""
    yield _simulated_proxy
    await simulator.wait_active(0)
    await _simulated_proxy.wait_at_rest()
