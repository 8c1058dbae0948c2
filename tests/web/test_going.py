"""The last words of a proxy that is going, to who still reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.web.service import CREATION, HALF_OF_EIGHT_THEN_SILENCE, open_simulated
from trioproxy.serving import proxy as proxy_module
from trioproxy.wire import ROUTES, SSE

ANYTHING: dict[str, Any] = {
    "prompt": "The river",
    "input": "The river",
    "messages": [{"role": "user", "content": "The river"}],
    "max_tokens": 8,
    "stream": True,
}
"""A call of every API."""


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "FAREWELL_SECONDS", 0.2)


@pytest.mark.parametrize("path", ROUTES)
async def test_every_api_is_told_in_its_own_words_and_no_more(path: str) -> None:
    dialect = ROUTES[path]
    async with (
        open_simulated(drain=0.0) as service,
        service.ask(ANYTHING, path=path, headers=HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        await client.response_head()
        begun = await client.chunk()
        with trio.fail_after(5):
            await service.proxy.shutdown()
        rest = await client.body()
        ended_properly = client.ended_properly

    assert begun is not None
    parser = dialect.framing.parser(1 << 20)
    messages = parser.feed(begun + rest)
    closing = 1 if path in ("/v1/completions", "/v1/chat/completions") else 0
    told = messages[-1 - closing]
    assert "shutting down: try again" in json.dumps(json.loads(told.data))
    assert sum(b"shutting down" in message.data for message in messages) == 1
    assert ended_properly
    assert b"retry:" not in begun + rest


async def test_an_event_source_is_told_when_to_come_back() -> None:
    async with open_simulated(drain=0.0) as service:
        generation = await service.create(CREATION, headers=HALF_OF_EIGHT_THEN_SILENCE)
        async with service.get(f"/v1/generations/{generation['id']}/events") as client:
            await client.response_head()
            begun = await client.chunk()
            await service.proxy.shutdown()
            rest = await client.body()

    assert begun is not None
    parser = SSE.parser(1 << 20)
    *_, told, _ = parser.feed(begun + rest)
    assert b"shutting_down" in told.data
    assert (begun + rest).count(b"retry: 1000\n") == 1


async def test_to_come_back_helps_where_the_proxy_goes_and_not_where_the_engine_fails() -> None:
    async with open_simulated() as service:
        generation = await service.create(CREATION, headers={"x-sim-fail": "truncate"})
        await service.outcome_of(generation["id"])
        answer = await service.http.get(f"/v1/generations/{generation['id']}/events")

    assert b"upstream_truncated" in answer.content
    assert b"retry:" not in answer.content
