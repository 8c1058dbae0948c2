"""Every route that the real engine has, by the clients of its API: the same text as from the engine
itself, and the same engine behind a background response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
import trio

from tests.e2e.commands import Proxy
from tests.e2e.llama import LlamaServer
from tests.e2e.streams import read_events
from tests.support.rawhttp import post_stream
from trioproxy.wire import Message, dialect_for

LIKELIEST = {"temperature": 0, "cache_prompt": False}
TOKENS = 40
TURN: Any = [{"role": "user", "content": "The river?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"messages": TURN, "max_tokens": TOKENS},
    "/v1/responses": {"input": "The river", "max_output_tokens": TOKENS},
    "/completion": {"prompt": "The river", "n_predict": TOKENS},
}

# The SDKs break off their own generators, and leave them to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


async def read_text(url: str, path: str) -> str:
    dialect = dialect_for(path)
    assert dialect is not None
    body = BODIES[path] | LIKELIEST | {"model": "tiny", "stream": True}
    async with post_stream(url, path, body) as client:
        events = await read_events(client)
    messages = [Message(event.name and event.name.encode(), event.data) for event in events]
    assert [dialect.verdict(message) for message in messages][-1] is not None
    return "".join(dialect.text(message) for message in messages)


@pytest.mark.parametrize("path", BODIES)
async def test_a_stream_says_what_the_engine_itself_says(
    proxy: Proxy, llama: LlamaServer, path: str
) -> None:
    direct = await read_text(llama.url, path)
    through = await read_text(proxy.url, path)

    assert through
    assert direct == through


@pytest.mark.parametrize("path", BODIES)
async def test_a_whole_answer_is_the_engines(proxy: Proxy, llama: LlamaServer, path: str) -> None:
    body = BODIES[path] | LIKELIEST | {"model": "tiny", "stream": False}
    async with httpx.AsyncClient(verify=False, trust_env=False) as client:
        direct = await client.post(f"{llama.url}{path}", json=body)
        through = await client.post(f"{proxy.url}{path}", json=body)

    assert (through.status_code, direct.status_code) == (200, 200)
    assert through.json().keys() == direct.json().keys()
    assert through.json().get("content") == direct.json().get("content")


def by_anthropic(url: str) -> str:
    http = anthropic.DefaultHttpxClient(trust_env=False)
    with (
        anthropic.Anthropic(base_url=url, api_key="k", http_client=http) as client,
        client.messages.stream(
            model="tiny", max_tokens=TOKENS, messages=TURN, extra_body=LIKELIEST
        ) as stream,
    ):
        return "".join(stream.text_stream)


def by_openai(url: str) -> str:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", http_client=http) as client:
        events = client.responses.create(
            model="tiny",
            input="The river",
            max_output_tokens=TOKENS,
            stream=True,
            extra_body=LIKELIEST,
        )
        return "".join(
            event.delta for event in events if event.type == "response.output_text.delta"
        )


def by_openai_in_the_background(url: str) -> str:
    """As :func:`by_openai`, where the engine has no background of its own."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", http_client=http) as client:
        response = client.responses.create(
            model="tiny",
            input="The river",
            max_output_tokens=TOKENS,
            background=True,
            extra_body=LIKELIEST,
        )
        events: Any = client.responses.retrieve(response.id, stream=True, starting_after=1)
        text = "".join(
            event.delta for event in events if event.type == "response.output_text.delta"
        )
        response = client.responses.retrieve(response.id)
        assert (response.status, response.output_text) == ("completed", text)
        assert client.responses.cancel(response.id).status == "completed"
        return text


@pytest.mark.parametrize(
    ("read", "directly"),
    [
        (by_anthropic, by_anthropic),
        (by_openai, by_openai),
        (by_openai_in_the_background, by_openai),
    ],
)
async def test_an_official_client_reads_the_same_text(
    proxy: Proxy,
    llama: LlamaServer,
    read: Callable[[str], str],
    directly: Callable[[str], str],
) -> None:
    direct = await trio.to_thread.run_sync(directly, llama.url)
    through = await trio.to_thread.run_sync(read, proxy.url)

    assert through
    assert direct == through
