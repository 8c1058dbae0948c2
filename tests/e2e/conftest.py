"""Real engines, one of each for the whole session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
