"""Starting a generation that nobody reads yet, to be read later or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.web.service import (
    CHAT,
    COMPLETIONS,
    CREATION,
    NOBODY_THERE,
    open_scripted,
    open_service,
    open_simulated,
    read_events,
    refusal_of,
)
from trioproxy.testing.upstream import sse


async def test_a_generation_is_made_without_a_reader_and_read_later_from_its_start() -> None:
    async with open_simulated() as service:
        response = await service.http.post("/v1/generations", json=CREATION)
        made = response.json()
        await service.outcome_of(made["id"])
        async with service.get(f"{response.headers['location']}/events") as client:
            head = await client.response_head()
            events = await read_events(client)

    assert (201, f"/v1/generations/{made['id']}") == (
        response.status_code,
        response.headers["location"],
    )
    assert (made["state"], made["subscribers"], made["events"]) == ("running", 0, 0)
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert head.headers["x-generation-id"] == made["id"]
    assert [f"{made['id']}:{seq}" for seq in range(1, 7)] == [event.id for event in events]
    assert events[-1].data == b"[DONE]"


async def test_a_generation_that_is_made_sends_the_body_upstream_as_it_is() -> None:
    async with open_scripted() as service:
        body = b'{"messages": [ ],"stream" :true}'
        await service.http.post(
            "/v1/generations?a=1",
            content=b'{"path": "%b", "body": %b}' % (CHAT.encode(), body),
            headers={"authorization": "Bearer alice"},
        )
        call = await service.upstream.next_call()

    assert (b"/v1/chat/completions?a=1", body) == (call.target, call.body)
    assert (b"authorization", b"Bearer alice") in call.headers


@pytest.mark.parametrize("stream", [{}, {"stream": None}, {"stream": True}])
async def test_a_generation_that_is_made_streams(stream: dict[str, Any]) -> None:
    async with open_simulated() as service:
        made = await service.create(CREATION | {"body": CREATION["body"] | stream})
        await service.outcome_of(made["id"])

        assert json.loads(service.engine.calls[0].body)["stream"] is True


async def test_a_generation_that_nobody_comes_for_ends_with_its_linger() -> None:
    async with open_scripted() as service:
        made = await service.create(CREATION | {"linger": 0.1})
        call = await service.upstream.next_call()

        assert await service.outcome_of(made["id"]) == {"kind": "cancelled", "reason": "abandoned"}
        await call.wait_departure()


async def test_the_linger_of_a_generation_that_is_made_is_a_setting() -> None:
    async with open_scripted(create_linger=0.1) as service:
        made = await service.create(CREATION)

        assert await service.outcome_of(made["id"]) == {"kind": "cancelled", "reason": "abandoned"}


async def test_making_a_generation_finds_the_one_that_runs_under_its_key() -> None:
    async with open_scripted() as service:
        key = {"X-Generation-Key": "k"}
        made = [(await service.create(CREATION, headers=key))["id"] for _ in range(2)]
        another = CREATION | {"body": {"prompt": "Another"}}
        refused = await service.http.post("/v1/generations", json=another, headers=key)

    assert made[0] == made[1]
    assert refusal_of(refused) == (409, "generation_mismatch")


async def test_a_call_of_the_api_joins_a_generation_that_was_made() -> None:
    body = b'{"prompt":"a","stream":true}'
    async with open_scripted() as service:
        made = (
            await service.http.post(
                "/v1/generations", content=b'{"path":"/v1/completions","body":%b}' % body
            )
        ).json()
        async with service.ask(body, headers={"x-fanout": "replay"}) as client:
            call = await service.upstream.next_call()
            await call.start()
            head = await client.response_head()
            await call.finish(sse(b"1", b"[DONE]"))

            assert (made["id"], "join") == (
                head.headers["x-generation-id"],
                head.headers["x-cache"],
            )
            assert [event.data for event in await read_events(client)] == [b"1", b"[DONE]"]


@pytest.mark.parametrize(
    ("creation", "param"),
    [
        ({"body": {}}, None),
        ({"path": COMPLETIONS}, None),
        ({"path": 1, "body": {}}, None),
        (CREATION | {"odd": 1}, None),
        (CREATION | {"mode": "odd"}, None),
        (CREATION | {"linger": "1"}, None),
        (CREATION | {"linger": -1}, "linger"),
        (CREATION | {"linger": 3601}, "linger"),
        (CREATION | {"path": "/v1/models"}, "path"),
        (CREATION | {"path": "/v1/completions?a=1"}, "path"),
        (CREATION | {"path": "completions"}, "path"),
        (CREATION | {"body": "text"}, None),
        (CREATION | {"body": {"prompt": "a", "stream": False}}, "body.stream"),
        (CREATION | {"body": {"prompt": "a", "stream": "yes"}}, "stream"),
        ([], None),
        (None, None),
    ],
)
async def test_a_creation_that_makes_no_sense_is_refused(creation: object, param: str) -> None:
    async with open_service(NOBODY_THERE) as service:
        refused = await service.http.post("/v1/generations", json=creation)
        generations = await service.list_generations()

    error = refused.json()["error"]
    assert (400, "invalid_request_error", "bad_request", param) == (
        refused.status_code,
        error["type"],
        error["code"],
        error["param"],
    )
    assert error["message"]
    assert generations == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"path": NaN}', b"\xff", b"[" * 10_000])
async def test_a_creation_that_is_no_json_is_refused(body: bytes) -> None:
    async with open_service(NOBODY_THERE) as service:
        refused = await service.http.post("/v1/generations", content=body)

    assert refusal_of(refused) == (400, "bad_request")
