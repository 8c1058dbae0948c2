"""Whoever holds other credentials sees, joins, reads and stops nothing: for them there is none."""

from __future__ import annotations

import json

import pytest

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    next_event,
    open_simulated,
)

ALICE = {"authorization": "Bearer alice"}
STRANGERS = [
    {},
    {"authorization": "Bearer bob"},
    {"x-api-key": "alice"},
    {"api-key": "alice"},
    {"x-goog-api-key": "alice"},
    ALICE | {"x-api-key": "a"},
]
RUNNING = HALF_OF_EIGHT_THEN_SILENCE | {"x-linger": "30"}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("state", ["running", "ended", "expired"])
@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/v1/generations/{}", {}),
        ("DELETE", "/v1/generations/{}", {}),
        ("GET", "/v1/generations/{}/events", {}),
        ("HEAD", "/v1/generations/{}/events", {}),
        ("GET", "/v1/generations/{0}/events?last_event_id={0}:1", {}),
        ("POST", COMPLETIONS, {"last-event-id": "{}:1"}),
        ("POST", COMPLETIONS + "?last_event_id={}:1", {}),
    ],
)
async def test_a_strangers_generation_is_told_from_none_by_nothing(
    method: str, target: str, headers: dict[str, str], state: str, stranger: dict[str, str]
) -> None:
    switches = RUNNING if state == "running" else {}
    body = json.dumps(COMPLETION).encode()
    retention = 0.0 if state == "expired" else 600.0
    async with open_simulated(retention=retention) as service:
        async with service.ask(headers=ALICE | switches) as client:
            generation_id = (await client.response_head()).headers["x-generation-id"]
            await next_event(client)
            if state != "running":
                await client.body()

        async def refusal(of: str) -> tuple[int, str]:
            given = {name: value.format(of) for name, value in headers.items()}
            response = await service.http.request(
                method, target.format(of), headers=stranger | given, content=body
            )
            return response.status_code, response.text.replace(of, "<id>")

        assert await refusal(generation_id) == await refusal("gen_" + "0" * 32)
        assert (await refusal(generation_id))[0] == 404
        shown = await service.http.get(f"/v1/generations/{generation_id}", headers=ALICE)
        if state == "expired":
            assert shown.status_code == 410
        else:
            assert state == shown.json()["state"]
        assert service.engine.stats.calls == 1


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_the_list_holds_nothing_of_a_stranger(stranger: dict[str, str]) -> None:
    async with (
        open_simulated() as service,
        service.ask(headers=ALICE | HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        await client.response_head()
        await service.http.post(COMPLETIONS, json=COMPLETION, headers=ALICE)

        own = await service.http.get("/v1/generations", headers=ALICE)
        strange = await service.http.get("/v1/generations", headers=stranger)

    assert len(own.json()["data"]) == 2
    assert strange.json()["data"] == []


async def test_one_tenants_generations_do_not_count_against_anothers_limit() -> None:
    async with (
        open_simulated(max_generations=1) as service,
        service.ask(headers=ALICE | HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        await client.response_head()
        refused = await service.http.post(COMPLETIONS, json=COMPLETION, headers=ALICE)
        answered = await service.http.post(COMPLETIONS, json=COMPLETION)

    assert (refused.status_code, answered.status_code) == (429, 200)
