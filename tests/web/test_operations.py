"""What the proxy tells its operator."""

from __future__ import annotations

import os

import pytest

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    next_event,
    open_simulated,
    refusal_of,
)


async def test_health_of_a_proxy_at_rest() -> None:
    async with open_simulated() as service:
        answer = await service.http.get("/healthz")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"status": "ok", "generations": 0, "subscribers": 0}


async def test_health_counts_what_runs_and_who_reads() -> None:
    headers = HALF_OF_EIGHT_THEN_SILENCE | {"x-generation-key": "k"}
    async with (
        open_simulated() as service,
        service.ask(headers=headers) as one,
        service.ask(headers=headers) as other,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as alone,
    ):
        for client in (one, other, alone):
            await client.response_head()
        answer = await service.http.get("/healthz")

    assert answer.json() == {"status": "ok", "generations": 2, "subscribers": 3}


@pytest.mark.parametrize("path", ["/healthz", "/debug/census"])
async def test_a_head_request_has_no_body(path: str) -> None:
    async with open_simulated() as service:
        answer = await service.http.head(path)

    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_census_counts_all_that_is_alive() -> None:
    async with (
        open_simulated() as service,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        await service.http.post(COMPLETIONS, json=COMPLETION)
        await client.response_head()
        await next_event(client)
        census = (await service.http.get("/debug/census")).json()

        assert census.pop("tasks") > 10
        assert census.pop("fds") <= len(os.listdir("/proc/self/fd"))
        assert census.pop("rss_bytes") > 10 * 2**20
    assert census == {
        "generations": 1,
        "subscribers": 1,
        "upstream_calls": 1,
        "retained": 1,
        "connections": 2,
    }


async def test_the_census_is_the_same_before_and_after_a_hundred_calls() -> None:
    async with open_simulated(retention=0) as service:
        await service.http.post(COMPLETIONS, json=COMPLETION)
        await service.wait_released()
        before = (await service.http.get("/debug/census")).json()
        for _ in range(100):
            await service.http.post(COMPLETIONS, json=COMPLETION)
        await service.wait_released()
        after = (await service.http.get("/debug/census")).json()

    assert before | {"rss_bytes": 0} == after | {"rss_bytes": 0}


async def test_the_census_is_for_debugging_only() -> None:
    async with open_simulated(debug=False) as service:
        answer = await service.http.get("/debug/census")

    assert refusal_of(answer) == (404, "not_found")
