"""Responses that go on in the background: made, looked at, read on, stopped, and their owner's."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.web.service import (
    NOBODY_THERE,
    ScriptedService,
    next_event,
    open_scripted,
    open_service,
    read_events,
    refusal_of,
)
from tests.web.sockets import open_socket
from trioproxy.testing.upstream import UpstreamCall, sse

RESPONSES = "/v1/responses"
IN_BACKGROUND: dict[str, Any] = {"input": "The river", "background": True}
CREATED = b'{"type":"response.created","response":{"id":"resp_1","status":"in_progress","n":1.50}}'
DELTAS = [b'{"type":"response.output_text.delta","delta":"%d"}' % number for number in range(3)]
COMPLETED = b'{"type":"response.completed","response":{"id":"resp_1","status":"completed"}}'
SNAPSHOT = b'{"id":"resp_1","status":"in_progress","n":1.50}'


async def begin(service: ScriptedService, *data: bytes) -> UpstreamCall:
    call = await service.upstream.next_call()
    await call.start()
    await call.write(sse(CREATED, *data))
    return call


async def start(service: ScriptedService, *data: bytes) -> UpstreamCall:
    """Start a response in the background, of whom the engine has told so much."""
    async with service.ask(IN_BACKGROUND, path=RESPONSES) as client:
        call = await begin(service, *data)
        assert (await client.response_head()).status == 200
        assert json.loads(await client.body())["id"] == "resp_1"
    await service.wait_events(1 + len(data))
    return call


async def test_it_is_answered_as_soon_as_the_engine_has_named_it_and_outlives_its_client() -> None:
    async with open_scripted() as service:
        async with service.ask(IN_BACKGROUND, path=RESPONSES) as client:
            call = await begin(service)
            head = await client.response_head()
            body = await client.body()
        await call.finish(sse(*DELTAS, COMPLETED))
        outcome = await service.outcome_of(head.headers["x-generation-id"])
        shown = await service.http.get(f"{RESPONSES}/resp_1")

    assert (head.status, head.headers["content-type"]) == (200, "application/json")
    assert body == SNAPSHOT
    assert outcome == {"kind": "completed", "reason": None}
    assert shown.content == b'{"id":"resp_1","status":"completed"}'


async def test_the_engine_sees_an_ordinary_call_that_streams() -> None:
    async with open_scripted() as service:
        call = await start(service)

    assert json.loads(call.body) == {"input": "The river", "stream": True}


async def test_a_stream_in_the_background_outlives_its_client_too() -> None:
    async with open_scripted() as service:
        async with service.ask(IN_BACKGROUND | {"stream": True}, path=RESPONSES) as client:
            call = await begin(service)
            head = await client.response_head()
            assert (await next_event(client)).name is None
        await service.wait_subscribers(0)
        await call.finish(sse(COMPLETED))
        outcome = await service.outcome_of(head.headers["x-generation-id"])

    assert outcome == {"kind": "completed", "reason": None}


@pytest.mark.parametrize(
    ("after", "expected"),
    [(None, [0, 1, 2, 3, 4]), ("0", [1, 2, 3, 4]), ("2", [3, 4]), ("3", [4])],
)
async def test_it_is_read_on_after_the_number_of_an_event(
    after: str | None, expected: list[int]
) -> None:
    query = "?stream=true" if after is None else f"?stream=true&starting_after={after}"
    async with open_scripted() as service:
        call = await start(service, *DELTAS)
        async with service.get(f"{RESPONSES}/resp_1{query}") as reader:
            head = await reader.response_head()
            await call.finish(sse(COMPLETED))
            events = await read_events(reader)

    assert (head.status, head.headers["content-type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
    assert expected == [json.loads(event.data)["sequence_number"] for event in events]


async def test_numbers_of_the_engines_own_count_whatever_they_begin_with() -> None:
    numbered = [b'{"n":1,"sequence_number":%d}' % number for number in (7, 9, 11)]
    async with open_scripted() as service:
        call = await start(service, *numbered)
        async with service.get(f"{RESPONSES}/resp_1?stream=true&starting_after=9") as reader:
            await reader.response_head()
            await call.finish(sse(COMPLETED))
            events = await read_events(reader)

    assert [json.loads(event.data)["sequence_number"] for event in events] == [11, 4]


async def test_a_number_that_has_not_come_yet_is_a_conflict() -> None:
    async with open_scripted() as service:
        await start(service, *DELTAS)
        refused = await service.http.get(f"{RESPONSES}/resp_1?stream=true&starting_after=4")

    assert refusal_of(refused) == (409, "event_not_reached")


@pytest.mark.parametrize("after", ["-1", "x", "٣", "9" * 20])
async def test_a_number_that_is_none_is_refused(after: str) -> None:
    async with open_scripted() as service:
        await start(service)
        refused = await service.http.get(
            f"{RESPONSES}/resp_1", params={"stream": "true", "starting_after": after}
        )

    assert refusal_of(refused) == (400, "bad_request")
    assert refused.json()["error"]["param"] == "starting_after"


async def test_stopping_is_for_everyone_and_twice_is_once() -> None:
    async with open_scripted() as service:
        call = await start(service, DELTAS[0])
        async with service.get(f"{RESPONSES}/resp_1?stream=true&starting_after=1") as reader:
            await reader.response_head()
            stopped = [await service.http.post(f"{RESPONSES}/resp_1/cancel") for _ in range(2)]
            await call.wait_departure()
            (told,) = await read_events(reader)
        shown = await service.http.get(f"{RESPONSES}/resp_1")

    for answer in (*stopped, shown):
        assert (answer.status_code, answer.content) == (
            200,
            b'{"id":"resp_1","status":"cancelled","n":1.50}',
        )
    assert told.name == "error"
    assert json.loads(told.data)["sequence_number"] == 2
    assert json.loads(told.data)["error"]["code"] == "cancelled"


async def test_one_that_has_ended_is_not_cancelled() -> None:
    async with open_scripted() as service:
        call = await start(service)
        await call.finish(sse(COMPLETED))
        generation_id = (await service.list_generations())[0]["id"]
        await service.outcome_of(generation_id)
        answer = await service.http.post(f"{RESPONSES}/resp_1/cancel")

    assert answer.json()["status"] == "completed"


async def test_one_that_the_engine_broke_off_has_failed() -> None:
    async with open_scripted() as service:
        call = await start(service, DELTAS[0])
        call.cut()
        await service.outcome_of((await service.list_generations())[0]["id"])
        shown = (await service.http.get(f"{RESPONSES}/resp_1")).json()

    assert shown["status"] == "failed"
    assert shown["error"]["code"] == "upstream_broken"


async def test_one_that_could_not_be_started_is_told_as_any_other_call() -> None:
    async with open_service(NOBODY_THERE) as service:
        refused = await service.http.post(RESPONSES, json=IN_BACKGROUND)

    assert refusal_of(refused) == (502, "upstream_unreachable")


async def test_a_refusal_of_the_engine_is_passed_on() -> None:
    async with open_scripted() as service, service.ask(IN_BACKGROUND, path=RESPONSES) as client:
        call = await service.upstream.next_call()
        await call.respond(429, ("retry-after", "7"), body=b'{"error":{}}')
        head = await client.response_head()

    assert (head.status, head.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/resp_1"), ("GET", "/resp_1?stream=true"), ("POST", "/resp_1/cancel")],
)
async def test_what_is_not_of_here_or_not_of_this_tenant_is_the_engines_affair(
    method: str, path: str
) -> None:
    other = {"authorization": "Bearer other"}
    async with open_scripted() as service:
        await start(service)
        async with service.request(method, f"{RESPONSES}{path}", headers=other) as client:
            call = await service.upstream.next_call()
            await call.respond(404, body=b"none of mine")
            head = await client.response_head()
            body = await client.body()

    assert (method, f"{RESPONSES}{path}".encode()) == (call.method, call.target)
    assert (head.status, body) == (404, b"none of mine")


async def test_other_methods_are_the_engines_affair_too() -> None:
    async with open_scripted() as service:
        await start(service)
        async with service.request("DELETE", f"{RESPONSES}/resp_1") as client:
            call = await service.upstream.next_call()
            await call.respond(200, body=b"{}")
            assert (await client.response_head()).status == 200

    assert call.method == "DELETE"


async def test_head_of_the_stream_reads_nothing() -> None:
    async with open_scripted() as service:
        await start(service)
        answer: httpx.Response = await service.http.head(f"{RESPONSES}/resp_1?stream=true")

    assert (answer.status_code, answer.content) == (200, b"")


async def test_an_ordinary_response_can_be_looked_at_while_it_is_retained() -> None:
    async with open_scripted() as service:
        async with service.ask({"input": "a", "stream": True}, path=RESPONSES) as client:
            call = await begin(service)
            await call.finish(sse(COMPLETED))
            await client.response_head()
            await client.body()
        shown = await service.http.get(f"{RESPONSES}/resp_1")

    assert shown.json() == {"id": "resp_1", "status": "completed"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"response.failed", b'{"id":"resp_1","status":"failed","error":{"code":"rate_limit"}}'),
        (b"response.cancelled", b'{"id":"resp_1","status":"cancelled"}'),
    ],
)
async def test_what_the_engine_tells_of_its_failure_stands(name: bytes, told: bytes) -> None:
    async with open_scripted() as service:
        call = await start(service, DELTAS[0])
        await call.finish(sse(b'{"type":"%b","response":%b}' % (name, told)))
        await service.outcome_of((await service.list_generations())[0]["id"])
        shown = await service.http.get(f"{RESPONSES}/resp_1")

    assert shown.content == told


async def test_who_leaves_before_it_was_told_an_id_leaves_nothing_running() -> None:
    async with open_scripted() as service:
        async with service.ask(IN_BACKGROUND, path=RESPONSES):
            call = await service.upstream.next_call()
        await call.wait_departure()
        await service.wait_released()


async def test_nobody_has_an_engine_generate_for_ever_for_nobody() -> None:
    async with open_scripted() as service:
        await start(service)
        [generation] = service.proxy.hub.running

        assert generation.linger == 3600


async def test_one_that_runs_already_is_answered_at_once() -> None:
    headers = {"x-generation-key": "k", "x-fanout": "live"}
    async with open_scripted() as service:
        async with service.ask(IN_BACKGROUND, path=RESPONSES, headers=headers) as client:
            await begin(service)
            assert (await client.response_head()).status == 200
        again = await service.http.post(RESPONSES, json=IN_BACKGROUND, headers=headers)

    assert again.content == SNAPSHOT
    assert service.upstream.calls == 1


@pytest.mark.parametrize("way", ["generations", "websocket"])
async def test_the_engine_is_never_asked_for_a_background_of_its_own(way: str) -> None:
    asked = {"path": RESPONSES, "body": IN_BACKGROUND}
    async with open_scripted() as service:
        if way == "generations":
            await service.create(asked)
            call = await service.upstream.next_call()
        else:
            async with open_socket(service) as socket:
                await socket.say(type="generate", **asked)
                call = await service.upstream.next_call()

    assert json.loads(call.body) == {"input": "The river", "stream": True}


async def test_it_is_read_on_from_where_its_head_was_dropped() -> None:
    async with open_scripted(max_transcript=1_500) as service:
        call = await start(service)
        for number in range(20):
            await call.write(sse(b'{"type":"x","n":%d}' % number))
            await service.wait_events(number + 2)
        [generation] = service.proxy.hub.running
        first = generation.transcript.first
        after = f"{RESPONSES}/resp_1?stream=true&starting_after={first - 2}"
        async with service.get(after) as reader:
            await reader.response_head()
            await call.finish(sse(COMPLETED))
            events = await read_events(reader)

    numbers = [json.loads(event.data)["sequence_number"] for event in events]
    assert numbers == list(range(first - 1, 22))
