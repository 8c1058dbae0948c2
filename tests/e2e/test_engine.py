"""The engine by itself, so that a failure behind the proxy is known not to be the engine's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trio

from tests.e2e.llama import LlamaServer, open_llama
from tests.support.rawhttp import RawClient, post_stream

PROMPT = {"model": "tiny", "stream": True, "prompt": "The river"}
CHAT = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "The river?"}]}


async def read_stream(client: RawClient) -> list[bytes]:
    """The data of every event up to the end of the body."""
    data: list[bytes] = []
    while event := await client.next_event():
        data.append(event.data)
    return data


async def test_completion_streams_text_and_ends_with_done(llama: LlamaServer) -> None:
    body = PROMPT | {"max_tokens": 20, "seed": 1, "logit_bias": [["</s>", False]]}
    async with post_stream(llama.url, "/v1/completions", body) as client:
        *chunks, last = await read_stream(client)

        choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
        text = "".join(choice["text"] for choice in choices)
        assert len(text.split()) > 10
        assert choices[-1]["finish_reason"] == "length"
        assert last == b"[DONE]"
        assert client.ended_properly


async def test_chat_streams_deltas_and_ends_with_done(llama: LlamaServer) -> None:
    async with post_stream(llama.url, "/v1/chat/completions", CHAT | {"max_tokens": 20}) as client:
        *chunks, last = await read_stream(client)

        choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
        assert choices[0]["delta"]["role"] == "assistant"
        assert all(choice["delta"]["content"] for choice in choices[1:-1])
        assert choices[-1]["finish_reason"] in ("length", "stop")
        assert last == b"[DONE]"
        assert client.ended_properly


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset, RawClient.half_close])
async def test_departure_frees_the_slot(
    slow_llama: LlamaServer, leave: Callable[[RawClient], None]
) -> None:
    async with post_stream(slow_llama.url, "/v1/completions", PROMPT) as client:
        await client.next_event()
        await slow_llama.wait_processing(1)

        leave(client)

        await slow_llama.wait_processing(0, within=2.0)
