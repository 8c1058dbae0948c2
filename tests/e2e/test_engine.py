"""The engine by itself, so that a failure behind the proxy is known not to be the engine's."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.llama import LlamaServer, open_llama
from tests.support.rawhttp import RawClient, post_stream

COMPLETION = {"model": "tiny", "stream": True, "prompt": "The river"}
CHAT = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "The river?"}]}
TWENTY_LIKELIEST_TOKENS = {"max_tokens": 20, "temperature": 0}

OPEN_LLAMA_AND_WAIT = """
import pathlib, signal, sys
from tests.e2e.llama import open_llama
with open_llama(pathlib.Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    signal.pause()
"""


async def read_data(client: RawClient) -> list[bytes]:
    """The data of every event up to the end of the body."""
    data: list[bytes] = []
    while event := await client.next_event():
        data.append(event.data)
    return data


def is_listening(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


async def test_completion_streams_text_and_ends_with_done(llama: LlamaServer) -> None:
    body = COMPLETION | TWENTY_LIKELIEST_TOKENS
    async with post_stream(llama.url, "/v1/completions", body) as client:
        *chunks, last = await read_data(client)

        choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
        assert len("".join(choice["text"] for choice in choices).split()) > 10
        assert choices[-1]["finish_reason"] == "length"
        assert last == b"[DONE]"
        assert client.ended_properly


async def test_chat_streams_deltas_and_ends_with_done(llama: LlamaServer) -> None:
    body = CHAT | TWENTY_LIKELIEST_TOKENS
    async with post_stream(llama.url, "/v1/chat/completions", body) as client:
        *chunks, last = await read_data(client)

        first, *others, end = [json.loads(chunk)["choices"][0] for chunk in chunks]
        assert first["delta"]["role"] == "assistant"
        assert len("".join(choice["delta"]["content"] for choice in others).split()) > 10
        assert (end["delta"], end["finish_reason"]) == ({}, "length")
        assert last == b"[DONE]"
        assert client.ended_properly


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset, RawClient.half_close])
async def test_departure_frees_the_slot(
    slow_llama: LlamaServer, leave: Callable[[RawClient], None]
) -> None:
    async with (
        post_stream(slow_llama.url, "/v1/completions", COMPLETION) as stays,
        post_stream(slow_llama.url, "/v1/completions", COMPLETION) as leaves,
    ):
        await leaves.next_event()
        await stays.next_event()
        await slow_llama.wait_processing(2)

        leave(leaves)

        await slow_llama.wait_processing(1)
        assert await stays.next_event() is not None
    await slow_llama.wait_processing(0)


async def test_waiting_for_a_slot_count_that_does_not_come_tells_the_count(
    llama: LlamaServer,
) -> None:
    with pytest.raises(AssertionError, match=r"^slots that are generating: 0 after 0\.05 s, not 1"):
        await llama.wait_processing(1, within=0.05)


async def test_slow_model_streams_on_past_its_context(models: Path) -> None:
    ctx = 256
    with open_llama(models / "slow.gguf", slots=1, ctx=ctx) as server:
        async with post_stream(server.url, "/v1/completions", COMPLETION) as client:
            events = [await client.next_event() for _ in range(ctx + 20)]

    assert None not in events


def test_engine_ends_with_its_block(models: Path) -> None:
    with open_llama(models / "fast.gguf") as server:
        assert is_listening(server.url)

    assert not is_listening(server.url)


def test_engine_ends_with_a_parent_that_is_killed(models: Path) -> None:
    command = [sys.executable, "-c", OPEN_LLAMA_AND_WAIT, str(models / "fast.gguf")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().decode().strip()
        assert is_listening(url)

        parent.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 5
    while is_listening(url):
        assert time.monotonic() < deadline, "the engine outlived its parent"
        time.sleep(0.01)


def test_engine_that_cannot_start_shows_its_log(models: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)did not start.*none\.gguf"),
        open_llama(models / "none.gguf"),
    ):
        pytest.fail("there is no model to serve")
