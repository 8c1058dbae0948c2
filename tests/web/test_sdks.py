"""The official clients through the proxy: they notice nothing while all goes well, and raise what
is theirs where it does not."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import ollama
import openai
import pytest
import trio

from tests.support.sdks import CLIENTS, TOKENS
from tests.web.service import SimulatedService, open_simulated, wait_until
from trioproxy.simulator import generate_text

TEXT = "".join(generate_text("Hello", TOKENS))
HALF = "".join(generate_text("Hello", TOKENS // 2))
ASKED = {"x-sim-tokens": str(TOKENS)}
PACED = ASKED | {"x-sim-rate": "40"}

each_client = pytest.mark.parametrize("client", CLIENTS)

# They break off their own generators, at errors, and leave them to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def stream(service: SimulatedService, client: Any, headers: dict[str, str]) -> list[str]:
    texts: list[str] = []
    await trio.to_thread.run_sync(client.stream, service.url, headers, texts)
    return texts


@each_client
@pytest.mark.parametrize("timing", [{}, {"x-timing": "1"}])
async def test_a_client_reads_the_same_text_streamed_and_whole(
    timing: dict[str, str], client: Any
) -> None:
    async with open_simulated() as service:
        texts = await stream(service, client, ASKED | timing)
        whole = await trio.to_thread.run_sync(client.whole, service.url, ASKED | timing)

    assert ("".join(texts), whole) == (TEXT, TEXT)


@each_client
@pytest.mark.parametrize("fail", ["mid", "truncate", "cut", "stall"])
async def test_a_client_raises_its_own_error_for_a_failure_in_the_middle(
    client: Any, fail: str
) -> None:
    texts: list[str] = []
    async with open_simulated(inter_token_timeout=0.2) as service:
        with pytest.raises(client.error):
            await trio.to_thread.run_sync(
                client.stream, service.url, ASKED | {"x-sim-fail": fail}, texts
            )

    assert "".join(texts) == HALF


@each_client
async def test_a_client_raises_its_own_error_for_a_refusal(client: Any) -> None:
    headers = ASKED | {"x-sim-status": "429"}
    async with open_simulated() as service:
        with pytest.raises(client.refusal):
            await trio.to_thread.run_sync(client.stream, service.url, headers, [])
        with pytest.raises(client.refusal):
            await trio.to_thread.run_sync(client.whole, service.url, headers)


@each_client
async def test_a_client_is_told_in_its_own_words_that_it_was_stopped(client: Any) -> None:
    texts: list[str] = []

    async def stop() -> None:
        await wait_until(lambda: has_read(texts, 3))
        [generation] = service.proxy.hub.running
        answer = await service.http.delete(
            f"/v1/generations/{generation.id}", headers=credentials_of(service)
        )
        told.append(answer.json()["usage"])

    told: list[dict[str, Any]] = []
    async with open_simulated() as service, trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        with pytest.raises(client.error):
            await trio.to_thread.run_sync(client.stream, service.url, PACED, texts)

    assert TEXT.startswith("".join(texts))
    [usage] = told
    # llama.cpp's own route counts as it goes; of all others it is an estimate of what came.
    assert usage["completion_tokens"] >= 3
    assert usage["estimated"]


def credentials_of(service: SimulatedService) -> dict[str, str]:
    """The credentials of whoever made the last call, as the engine has seen them."""
    headers = service.engine.calls[-1].headers
    return {name: headers[name] for name in ("authorization", "x-api-key") if name in headers}


async def has_read(texts: list[str], number: int) -> bool:
    await trio.lowlevel.checkpoint()
    return len([text for text in texts if text]) >= number


@each_client
async def test_a_client_without_ids_starts_anew_and_gets_all_of_the_same_call(client: Any) -> None:
    # Slow enough that the call still runs when the client, however late, comes back.
    headers = ASKED | {"x-sim-rate": "10", "x-generation-key": "k", "x-linger": "30"}
    texts: list[str] = []

    async def cut() -> None:
        await wait_until(lambda: has_read(texts, 3))
        service.proxy.server.kill_all()

    async with open_simulated() as service:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises((openai.APIError, httpx.HTTPError, httpx2.HTTPError)):
                await trio.to_thread.run_sync(client.stream, service.url, headers, texts)
        again = await stream(service, client, headers)

        assert service.engine.stats.calls == 1
    assert texts
    assert "".join(again) == TEXT


async def test_the_list_of_models_comes_from_the_engine() -> None:
    def names(url: str) -> list[str | None]:
        with ollama.Client(url, trust_env=False) as client:
            return [model.model for model in client.list().models]

    async with open_simulated() as service:
        assert await trio.to_thread.run_sync(names, service.url) == ["simulated"]
