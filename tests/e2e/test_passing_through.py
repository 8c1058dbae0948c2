"""What the engine answers itself, errors included, reaches the client as it is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.commands import Proxy, open_proxy
from tests.e2e.llama import LlamaServer, open_llama
from tests.e2e.streams import CHAT, COMPLETION, COMPLETIONS, chunks_of, read_events
from tests.support.rawhttp import post_stream


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=False, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", COMPLETIONS, {}, 400),
        ("POST", COMPLETIONS, {"stream": True}, 400),
        ("POST", CHAT, {}, 400),
        ("POST", CHAT, {"stream": True}, 400),
        ("POST", CHAT, {"stream": True, "messages": "not a list"}, 400),
        ("POST", "/v1/embeddings", {"input": "river"}, 501),
        ("POST", "/v1/nothing", {"a": 1}, 404),
        ("GET", "/v1/nothing", None, 404),
    ],
)
async def test_error_of_the_engine_passes_through(
    proxy: Proxy,
    llama: LlamaServer,
    http: httpx.AsyncClient,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
) -> None:
    direct, through = [
        await http.request(method, f"{url}{path}", json=body) for url in (llama.url, proxy.url)
    ]

    assert (status, direct.headers["content-type"], direct.content) == (
        through.status_code,
        through.headers["content-type"],
        through.content,
    )


async def test_list_of_models_passes_through(
    proxy: Proxy, llama: LlamaServer, http: httpx.AsyncClient
) -> None:
    direct, through = [
        (await http.get(f"{url}/v1/models")).json() for url in (llama.url, proxy.url)
    ]
    for models in (direct, through):
        del models["data"][0]["created"]  # when it was asked

    assert through["data"][0]["id"] == "tiny"
    assert direct == through


async def test_context_that_fills_up_is_an_answer_that_ends_for_its_length(models: Path) -> None:
    ctx = 256
    with (
        open_llama(models / "slow.gguf", slots=1, ctx=ctx, when_full="stop") as engine,
        open_proxy(engine.url) as proxy,
    ):
        async with post_stream(proxy.url, COMPLETIONS, COMPLETION) as client:
            chunks = chunks_of(await read_events(client))
        generation = await proxy.generation(client.head.headers["x-generation-id"])

    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert ctx - 20 < len(chunks) <= ctx
    assert generation["outcome"] == {"kind": "completed", "reason": None}
