"""LiteLLM beside an engine: where the one is gone, the other is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks.processes import Process
from tests.e2e.commands import Simulator
from tests.gateways.asking import SIZED, TEXT
from tests.gateways.standing import ENGINE, LITELLM, gateway_of, open_litellm
from tests.simulator.speech import USER_SAYS_HELLO
from tests.web.service import CHAT, Service, open_service, read_events, text_of

CALL: dict[str, Any] = {"model": "qwen", "messages": USER_SAYS_HELLO, "stream": True}


@pytest.fixture
def stopping() -> Iterator[ExitStack]:
    """What ends the LiteLLM of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def own_litellm(engine: Simulator, stopping: ExitStack) -> Process:
    """One that calls the engine itself, and that the test may stop."""
    return stopping.enter_context(open_litellm(engine_url=engine.url, proxy_url=engine.url))


async def ask(service: Service) -> tuple[bool, str]:
    """Whether LiteLLM has answered, and what it said."""
    async with service.ask(CALL, path=CHAT, headers=SIZED) as client:
        head = await client.response_head()
        assert head.status == 200, await client.body()
        return "x-litellm-call-id" in head.headers, text_of(await read_events(client))


async def test_while_litellm_is_stopped_the_engine_answers(
    own_litellm: Process, engine: Simulator, stopping: ExitStack, tmp_path: Path
) -> None:
    gateway = gateway_of("beside", tmp_path, {LITELLM: own_litellm.url, ENGINE: engine.url})
    async with open_service("", upstream=None, gateway=gateway) as service:
        before = [await ask(service) for _ in range(2)]
        await trio.to_thread.run_sync(stopping.close)  # SIGTERM
        after = [await ask(service) for _ in range(4)]

    assert before == [(True, TEXT)] * 2
    assert after == [(False, TEXT)] * 4
