"""One upstream call as the engine sees it, and the same answer for all who read it."""

from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import trio

from tests.e2e.commands import Proxy
from tests.e2e.llama import LlamaServer
from tests.e2e.streams import (
    CHAT,
    COMPLETION,
    COMPLETIONS,
    REPLAY,
    ask,
    chunks_of,
    read_events,
    text_of,
)
from tests.support.rawhttp import RawClient, post_stream

TOKENS = 300
LONG_ANSWER = COMPLETION | {"max_tokens": TOKENS, "seed": 4}

QUESTIONS: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"prompt": "The river"},
    CHAT: {"messages": [{"role": "user", "content": "The river?"}]},
}
LIKELIEST = {"temperature": 0, "max_tokens": 60}
PICTURED = {"seed": 4, "max_tokens": TOKENS, "ignore_eos": True}
"""An answer with words of several scripts, and emoji, in it."""

OF_ONE_CALL = ("id", "created", "timings")
"""What differs between two calls that are otherwise the same."""


def repeatable(path: str, sampling: dict[str, Any]) -> dict[str, Any]:
    """A question that the engine answers in the same words each time."""
    return QUESTIONS[path] | sampling | {"model": "tiny", "cache_prompt": False}


async def read_chunks(url: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a whole stream, less what is of one call only."""
    async with post_stream(url, path, body) as client:
        chunks = chunks_of(await read_events(client))
    return [
        {name: value for name, value in chunk.items() if name not in OF_ONE_CALL}
        for chunk in chunks
    ]


async def test_fifty_readers_cost_one_call_and_read_the_same_bytes(
    slow_proxy: Proxy, slow_llama: LlamaServer
) -> None:
    bodies: list[bytes] = []

    async def read(client: RawClient) -> None:
        bodies.append(await client.body())
        assert client.ended_properly

    predicted = await slow_llama.metric("tokens_predicted_total")
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(ask(slow_proxy.url, LONG_ANSWER, headers=REPLAY))
            for _ in range(50)
        ]
        found = Counter([(await client.response_head()).headers["x-cache"] for client in clients])
        busy = await slow_llama.processing()
        requests = await slow_llama.metric("requests_processing")
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(read, client)
    predicted = await slow_llama.metric("tokens_predicted_total") - predicted

    assert found == {"miss": 1, "join": 49}
    assert (busy, requests, predicted) == (1, 1, TOKENS)
    assert (len(bodies), len(set(bodies))) == (50, 1)
    assert b"\ndata: [DONE]\nid: " in bodies[0]


@pytest.mark.parametrize("mode", ["replay", "live"])
async def test_late_joiner_reads_the_bytes_of_the_first_reader(
    slow_proxy: Proxy, mode: str
) -> None:
    async with post_stream(slow_proxy.url, COMPLETIONS, LONG_ANSWER, REPLAY) as first:
        before = [await first.chunk() or b"" for _ in range(20)]
        headers = {"x-fanout": mode}
        async with post_stream(slow_proxy.url, COMPLETIONS, LONG_ANSWER, headers) as late:
            body = b"".join(before) + await first.body()
            late_body = await late.body()

    assert late.head.headers["x-cache"] == "join"
    if mode == "replay":
        assert body == late_body
    else:
        assert body.endswith(b"\n\n" + late_body)
        assert len(b"".join(before)) <= len(body) - len(late_body)
    assert b"\ndata: [DONE]\nid: " in late_body


@pytest.mark.parametrize("sampling", [LIKELIEST, PICTURED], ids=["likeliest", "pictured"])
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
async def test_stream_is_the_one_that_the_engine_itself_gives(
    proxy: Proxy, llama: LlamaServer, path: str, sampling: dict[str, Any]
) -> None:
    body = repeatable(path, sampling) | {
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    direct = await read_chunks(llama.url, path, body)
    through = await read_chunks(proxy.url, path, body)

    assert direct == through
    assert sampling["max_tokens"] == through[-1]["usage"]["completion_tokens"]
    if sampling is PICTURED:
        assert {"東京", "🌊"} <= set(text_of(through).split())


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
async def test_whole_answer_is_the_one_that_the_engine_itself_gives(
    proxy: Proxy, llama: LlamaServer, path: str
) -> None:
    answers: list[dict[str, Any]] = []
    async with httpx.AsyncClient(verify=False, trust_env=False) as client:
        for url in (llama.url, proxy.url):
            response = await client.post(f"{url}{path}", json=repeatable(path, PICTURED))
            assert response.status_code == 200
            answer = response.json()
            answers.append({key: answer[key] for key in answer.keys() - set(OF_ONE_CALL)})

    direct, through = answers
    assert direct == through
    assert through["usage"]["completion_tokens"] == TOKENS
