"""Generations as resources: made, listed, shown, read and stopped."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    CREATION,
    HALF_OF_EIGHT_THEN_SILENCE,
    NOBODY_THERE,
    next_event,
    open_scripted,
    open_service,
    open_simulated,
    read_events,
    refusal_of,
)
from trioproxy.testing.upstream import sse


async def test_a_running_generation_has_this_shape() -> None:
    began = time.time()
    async with (
        open_simulated() as service,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        generation_id = (await client.response_head()).headers["x-generation-id"]
        payloads = [len((await next_event(client)).data) for _ in range(4)]
        shown = await service.describe(generation_id)

    assert began <= shown.pop("created_at") <= shown.pop("first_event_at") <= time.time()
    check_timing(shown, gaps=3)
    assert shown == {
        "object": "generation",
        "id": generation_id,
        "state": "running",
        "outcome": None,
        "path": COMPLETIONS,
        "model": None,
        "mode": "replay",
        "subscribers": 1,
        "events": 4,
        "bytes": sum(payloads),
        "usage": {"prompt_tokens": None, "completion_tokens": 4, "estimated": True},
        "ended_at": None,
    }


async def test_an_ended_generation_has_this_shape() -> None:
    async with open_simulated() as service:
        response = await service.http.post(
            COMPLETIONS, json=COMPLETION, headers={"x-fanout": "private"}
        )
        shown = await service.describe(response.headers["x-generation-id"])

    assert shown.pop("bytes") > 0
    check_timing(shown, gaps=7)
    assert shown.pop("created_at") <= shown.pop("first_event_at") <= shown.pop("ended_at")
    assert shown == {
        "object": "generation",
        "id": response.headers["x-generation-id"],
        "state": "ended",
        "outcome": {"kind": "completed", "reason": None},
        "path": COMPLETIONS,
        "model": None,
        "mode": "private",
        "subscribers": 0,
        "events": 10,
        "usage": {"prompt_tokens": None, "completion_tokens": 8, "estimated": True},
    }


def check_timing(shown: dict[str, Any], *, gaps: int) -> None:
    """Take out what tells its times, of an engine that is as fast as it can be."""
    assert 0 < shown.pop("ttft_seconds") < 10
    assert len(shown.pop("recent_gaps")) <= gaps
    per_second = shown.pop("tokens_per_second")
    assert per_second is None or per_second > 1


async def test_the_list_has_those_that_run_before_those_that_ended_each_oldest_first() -> None:
    async with open_simulated() as service, service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as one:
        running = [(await one.response_head()).headers["x-generation-id"]]
        ended = [
            (await service.http.post(COMPLETIONS, json=COMPLETION)).headers["x-generation-id"]
            for _ in range(2)
        ]
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as other:
            running.append((await other.response_head()).headers["x-generation-id"])
            generations = await service.list_generations()

            assert running + ended == [generation["id"] for generation in generations]
            assert generations[0].keys() == (await service.describe(running[0])).keys()


async def test_stopping_ends_it_for_everyone() -> None:
    headers = {"x-generation-key": "k", "x-linger": "30"}
    async with (
        open_scripted() as service,
        service.ask(headers=headers) as one,
        service.ask(headers=headers) as other,
    ):
        call = await service.upstream.next_call()
        await call.start()
        await call.write(sse(b"1"))
        heads = [await client.response_head() for client in (one, other)]
        first = [await next_event(client) for client in (one, other)]
        generation_id = heads[0].headers["x-generation-id"]
        stopped = await service.http.delete(f"/v1/generations/{generation_id}")
        (error, done), rest = await read_events(one), await read_events(other)

        await call.wait_departure()
        assert first[0] == first[1]
        assert [error, done] == rest
        assert (json.loads(error.data)["error"]["code"], done.data) == ("cancelled", b"[DONE]")
        assert (200, generation_id) == (stopped.status_code, stopped.json()["id"])
        assert stopped.json()["outcome"] == {"kind": "cancelled", "reason": "stopped"}


async def test_who_waits_for_the_head_of_a_stopped_generation_gets_a_status() -> None:
    async with open_scripted() as service, service.ask() as client:
        await service.upstream.next_call()
        (generation,) = await service.list_generations()
        await service.http.delete(f"/v1/generations/{generation['id']}")
        head = await client.response_head()
        error = json.loads(await client.body())["error"]

    assert (head.status, error["code"]) == (410, "cancelled")
    assert head.headers["x-should-retry"] == "false"


async def test_stopping_twice_says_the_same_twice() -> None:
    async with open_scripted() as service:
        address = f"/v1/generations/{(await service.create(CREATION))['id']}"
        stopped = [(await service.http.delete(address)).json() for _ in range(2)]

    assert stopped[0]["outcome"] == {"kind": "cancelled", "reason": "stopped"}
    assert stopped[0] == stopped[1]


async def test_stopping_what_has_ended_changes_nothing() -> None:
    async with open_simulated() as service:
        response = await service.http.post(COMPLETIONS, json=COMPLETION)
        address = f"/v1/generations/{response.headers['x-generation-id']}"
        stopped = await service.http.delete(address)

    assert stopped.status_code == 200
    assert stopped.json()["outcome"] == {"kind": "completed", "reason": None}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_generation_that_never_was_is_not_found(method: str) -> None:
    async with open_service(NOBODY_THERE) as service:
        refused = await service.http.request(method, "/v1/generations/gen_x")

    assert refusal_of(refused) == (404, "generation_not_found")


async def test_a_head_request_for_the_events_subscribes_nobody() -> None:
    async with open_scripted() as service:
        made = await service.create(CREATION)
        await service.upstream.next_call()
        events = f"/v1/generations/{made['id']}/events"
        head = await service.http.head(events)
        async with service.get(events) as client:
            expected = (await client.response_head()).headers
        await service.wait_subscribers(0)

        assert head.status_code == 200
        assert (await service.describe(made["id"]))["state"] == "running"
        assert {name: expected[name] for name in expected if name != "date"} == {
            name: head.headers.get(name) for name in expected if name != "date"
        }
        assert "content-length" not in head.headers


async def test_an_answer_that_was_not_streamed_has_no_events_to_read() -> None:
    async with open_simulated() as service:
        answer = await service.http.post(COMPLETIONS, json={"prompt": "a", "max_tokens": 2})
        generation_id = answer.headers["x-generation-id"]
        response = await service.http.get(f"/v1/generations/{generation_id}/events")

    assert refusal_of(response) == (409, "generation_mismatch")


async def test_a_mode_that_a_reader_cannot_have_is_refused() -> None:
    async with open_simulated() as service:
        response = await service.http.post(COMPLETIONS, json=COMPLETION)
        address = f"/v1/generations/{response.headers['x-generation-id']}/events?mode=private"
        refused = await service.http.get(address)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "mode")


async def test_the_events_of_a_generation_whose_head_has_not_come_begin_at_once() -> None:
    async with open_scripted() as service:
        made = await service.create(CREATION)
        call = await service.upstream.next_call()
        async with service.get(f"/v1/generations/{made['id']}/events") as client:
            assert (await client.response_head()).status == 200
            await call.respond(429, body=b'{"error": {}}')
            error, done = await read_events(client)

    assert (json.loads(error.data)["error"]["code"], done.data) == ("upstream_refused", b"[DONE]")


async def test_of_a_long_name_of_a_model_the_beginning_is_remembered() -> None:
    body = {"prompt": "The river", "model": 300 * "m"}
    async with open_simulated() as service:
        made = await service.create({"path": COMPLETIONS, "body": body})

    assert made["model"] == 100 * "m"
