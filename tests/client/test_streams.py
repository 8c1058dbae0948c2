"""The client against the whole proxy and a simulated engine, over real sockets."""

from __future__ import annotations

import pytest

from tests.web.service import open_simulated
from trioproxy.client import GenerationFailed, Refused, open_client
from trioproxy.simulator import generate_text

PROMPT = "The river"
MESSAGES = {"messages": [{"role": "user", "content": PROMPT}]}
COMPLETION = {"prompt": PROMPT}
TOKENS = 20
ASKED = {"x-sim-tokens": str(TOKENS)}
TEXT = "".join(generate_text(PROMPT, TOKENS))
REQUESTS = {
    "/v1/completions": COMPLETION,
    "/v1/chat/completions": MESSAGES,
    "/v1/responses": {"input": PROMPT},
    "/v1/messages": {**MESSAGES, "max_tokens": TOKENS},
    "/completion": COMPLETION,
    "/api/generate": COMPLETION,
    "/api/chat": MESSAGES,
}


@pytest.mark.parametrize("path", REQUESTS)
async def test_the_text_is_what_the_engine_said(path: str) -> None:
    body = {"model": "simulated", **REQUESTS[path]}
    async with open_simulated() as service, open_client(service.url) as client:
        async with client.stream(path, body, headers=ASKED) as stream:
            events = [event async for event in stream]
        assert stream.generation_id is not None
        again = [event async for event in client.read(stream.generation_id)]
        rest = [event async for event in client.read(stream.generation_id, after=5)]
        none = [event async for event in client.read(stream.generation_id, after=stream.seq)]
        description = await client.generation(stream.generation_id)

    assert "".join(event.text for event in events) == TEXT
    assert [*range(1, len(events) + 1)] == [event.seq for event in events]
    assert "".join(event.text for event in again) == TEXT
    assert ([event.seq for event in events[5:]], []) == ([event.seq for event in rest], none)
    assert ("completed", len(events)) == (description["outcome"]["kind"], description["events"])
    assert service.engine.stats.calls == 1


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("failure", ["mid", "truncate", "cut"])
async def test_a_failure_of_the_engine_is_raised_after_half_of_the_text(
    path: str, failure: str
) -> None:
    body = {"model": "simulated", **REQUESTS[path]}
    text = ""
    headers = {**ASKED, "x-sim-fail": failure}
    async with (
        open_simulated() as service,
        open_client(service.url) as client,
        client.stream(path, body, headers=headers) as stream,
    ):
        with pytest.raises(GenerationFailed) as caught:  # noqa: PT012
            async for event in stream:
                text += event.text

    assert "".join(generate_text(PROMPT, TOKENS // 2)) == text
    assert stream.seq == caught.value.seq
    assert service.engine.stats.calls == 1


async def test_a_refusal_of_the_engine_is_raised() -> None:
    headers = {"x-sim-status": "418"}
    async with open_simulated() as service, open_client(service.url) as client:
        with pytest.raises(Refused) as caught:
            await anext(client.stream("/v1/completions", COMPLETION, headers=headers))

    assert caught.value.status == 418


async def test_stopping_frees_the_engine_for_everyone() -> None:
    headers = {**ASKED, "x-sim-fail": "stall"}
    async with open_simulated() as service, open_client(service.url) as client:
        async with client.stream("/v1/completions", COMPLETION, headers=headers) as stream:
            await anext(stream)
            await stream.cancel()
            assert [event async for event in stream] == []
        await service.wait_aborted(1)
        assert stream.generation_id is not None
        with pytest.raises(GenerationFailed, match="stopped"):
            async for _ in client.read(stream.generation_id):
                pass


async def test_data_of_an_event_is_json() -> None:
    async with (
        open_simulated() as service,
        open_client(service.url) as client,
        client.stream("/v1/completions", COMPLETION, headers=ASKED) as stream,
    ):
        event = await anext(stream)

    assert event.text == event.json()["choices"][0]["text"]
    assert (event.generation_id, event.seq, event.name) == (stream.generation_id, 1, None)
