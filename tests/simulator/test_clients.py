"""The official clients read what the engine says, streamed and whole, and raise what is theirs."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio

from tests.support.sdks import CLIENTS, TOKENS, open_ollama
from trioproxy.simulator import EngineSettings, SimulatedEngine, generate_text, open_engine

TEXT = "".join(generate_text("Hello", TOKENS))
HALF = "".join(generate_text("Hello", TOKENS // 2))
FAILED = "a failure that the request asked for"


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    async with open_engine(settings=EngineSettings(rate=0, ttft=0, tokens=TOKENS)) as engine:
        yield engine


every_client = pytest.mark.parametrize("client", CLIENTS)


@every_client
async def test_a_client_reads_the_same_text_streamed_and_whole(
    client: Any, engine: SimulatedEngine
) -> None:
    texts: list[str] = []

    await trio.to_thread.run_sync(client.stream, engine.url, {}, texts)
    whole = await trio.to_thread.run_sync(client.whole, engine.url, {})

    assert "".join(texts) == TEXT
    assert whole == TEXT
    assert engine.stats.completed == 2


@every_client
async def test_a_client_raises_its_own_error_for_a_failure_in_the_middle(
    client: Any, engine: SimulatedEngine
) -> None:
    texts: list[str] = []

    with pytest.raises(client.error, match=FAILED):
        await trio.to_thread.run_sync(client.stream, engine.url, {"x-sim-fail": "mid"}, texts)

    assert "".join(texts) == HALF


@every_client
async def test_a_client_raises_its_own_error_for_a_refusal(
    client: Any, engine: SimulatedEngine
) -> None:
    headers = {"x-sim-status": "429"}

    with pytest.raises(client.refusal, match=FAILED):
        await trio.to_thread.run_sync(client.stream, engine.url, headers, [])
    with pytest.raises(client.refusal, match=FAILED):
        await trio.to_thread.run_sync(client.whole, engine.url, headers)


async def test_ollama_s_client_lists_the_model(engine: SimulatedEngine) -> None:
    def names() -> list[str | None]:
        with open_ollama(engine.url, {}) as client:
            return [model.model for model in client.list().models]

    assert await trio.to_thread.run_sync(names) == [engine.settings.model]
