"""What is too large, too slow or too many: refused by the status that the API's clients expect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    assert_answers,
    error_of,
    open_simulated,
)

VALID = json.dumps(COMPLETION).encode()
KEY = {"x-generation-key": "k"}


def assert_is_to_try_later(refused: httpx.Response, status: int, kind: str, code: str) -> None:
    error = error_of(refused)
    told = (refused.status_code, error["type"], error["code"], refused.headers["retry-after"])
    assert told == (status, kind, code, "1")


@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/generations", "/v1/embeddings"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_too_large(path: str, chunked: bool) -> None:
    async def in_chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    async with open_simulated(max_body=1_000) as service:
        content = in_chunks() if chunked else b"x" * 1_100
        refused = await service.http.post(path, content=content)
        error = error_of(refused)

        await assert_answers(service)
    assert (refused.status_code, error["code"]) == (413, "body_too_large")


async def test_a_body_over_the_limit_is_refused_before_it_was_sent() -> None:
    async with (
        open_simulated(max_body=1_000) as service,
        service.request("POST", COMPLETIONS, headers={"content-length": "1000000000"}) as client,
    ):
        assert (await client.response_head()).status == 413
        await client.body()
        await client.wait_closed()

        await assert_answers(service)


async def test_a_body_of_just_the_limit_is_taken() -> None:
    async with open_simulated(max_body=len(VALID)) as service:
        taken = await service.http.post(COMPLETIONS, content=VALID)
        refused = await service.http.post(COMPLETIONS, content=VALID + b" ")

    assert (taken.status_code, refused.status_code) == (200, 413)


@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/generations", "/v1/embeddings"])
async def test_a_body_that_takes_too_long_times_out(path: str) -> None:
    async with (
        open_simulated(body_timeout=0.1) as service,
        service.request("POST", path, headers={"content-length": "100"}, body=b"{") as client,
    ):
        head = await client.response_head()
        error = json.loads(await client.body())["error"]

        assert (head.status, error["code"]) == (408, "request_timeout")
        await client.wait_closed()
        await assert_answers(service)


async def test_too_many_subscribers_are_told_to_try_again_later() -> None:
    async with (
        open_simulated(max_subscribers=2) as service,
        service.ask(headers=KEY | HALF_OF_EIGHT_THEN_SILENCE) as one,
        service.ask(headers=KEY | HALF_OF_EIGHT_THEN_SILENCE) as other,
    ):
        heads = [await client.response_head() for client in (one, other)]
        generation_id = heads[0].headers["x-generation-id"]
        refusals = [
            await service.http.post(COMPLETIONS, content=VALID, headers=KEY),
            await service.http.get(f"/v1/generations/{generation_id}/events"),
        ]

        assert [heads[0].status, heads[1].status] == [200, 200]
        assert service.engine.stats.calls == 1
        await assert_answers(service)
    for refused in refusals:
        assert_is_to_try_later(refused, 429, "rate_limit_error", "too_many_subscribers")


async def test_too_many_generations_are_told_to_try_again_later() -> None:
    creation = {"path": COMPLETIONS, "body": COMPLETION}
    async with open_simulated(max_generations=1) as service:
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as client:
            await client.response_head()
            refusals = [
                await service.http.post(COMPLETIONS, content=VALID),
                await service.http.post("/v1/generations", json=creation),
            ]
        await service.wait_released()

        await assert_answers(service)
    for refused in refusals:
        assert_is_to_try_later(refused, 429, "rate_limit_error", "too_many_generations")


async def test_who_asks_for_something_new_while_the_proxy_drains_is_sent_elsewhere() -> None:
    async with (
        open_simulated() as service,
        service.ask(headers=KEY | HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        generation_id = (await client.response_head()).headers["x-generation-id"]
        service.proxy.hub.refuse()
        refused = await service.http.post(COMPLETIONS, content=VALID)
        async with service.ask(headers=KEY | HALF_OF_EIGHT_THEN_SILENCE) as joins:
            joined = await joins.response_head()

    assert_is_to_try_later(refused, 503, "server_error", "shutting_down")
    assert (200, generation_id) == (joined.status, joined.headers["x-generation-id"])
