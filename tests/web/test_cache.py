"""Answers that are kept: who gets them, and what they look like."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    SimulatedService,
    next_event,
    open_scripted,
    open_simulated,
)
from tests.web.test_door import ALICE, BOB, GATEWAY
from trioproxy.testing.upstream import sse

NO_STORE, NO_CACHE = {"cache-control": "max-age=0, no-store"}, {"cache-control": "No-Cache"}
WHOLE = COMPLETION | {"stream": False}


def open_keeping(**settings: Any):
    return open_simulated(cache_ttl=60.0, **settings)


async def ask(
    service: SimulatedService, body: object = COMPLETION, **headers: str
) -> tuple[str, bytes]:
    """How the answer was had, and the answer without what is each one's own."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await service.http.post(COMPLETIONS, json=body, headers=sent)
    assert answer.status_code == 200
    own = answer.headers["x-generation-id"].encode()
    return answer.headers["x-cache"], answer.content.replace(own, b"")


@pytest.mark.parametrize("body", [COMPLETION, WHOLE])
async def test_the_same_request_is_answered_the_same_without_a_call(body: object) -> None:
    async with open_keeping() as service:
        first, second = [await ask(service, body) for _ in range(2)]
        other = await ask(service, {"prompt": "other", "stream": True})
        await service.wait_released()
        metrics = (await service.http.get("/metrics")).text

        assert service.engine.stats.calls == 2
    assert (first[0], second[0], other[0]) == ("miss", "hit", "miss")
    assert first[1] == second[1]
    assert "trioproxy_cache_hits_total 1.0" in metrics
    assert "trioproxy_cache_answers 2.0" in metrics
    # What was kept says nothing of the engine's speed.
    counts = re.findall(r"^gen_ai_server_request_duration_seconds_count\{.*} (.*)$", metrics, re.M)
    assert counts == ["2.0"]


async def test_what_an_engine_told_of_its_call_is_not_told_again() -> None:
    tells = [("content-type", "text/event-stream"), ("x-request-id", "req_1"), ("x-own", "a")]
    async with open_scripted(cache_ttl=60.0) as service:
        heads: list[Any] = []
        async with service.ask() as client:
            call = await service.upstream.next_call()
            await call.start(200, *tells)
            await call.finish(sse(b"a", b"[DONE]"))
            heads.append(await client.response_head())
            await client.body()
        async with service.ask() as client:
            heads.append(await client.response_head())

    assert [head.headers.get("x-request-id") for head in heads] == ["req_1", None]


async def test_without_a_time_to_keep_them_none_is_kept() -> None:
    async with open_simulated() as service:
        assert [(await ask(service))[0] for _ in range(2)] == ["miss", "miss"]


@pytest.mark.parametrize(
    ("first", "second", "had"),
    [
        (NO_STORE, {}, "miss"),
        ({}, NO_STORE, "miss"),
        ({}, NO_CACHE, "miss"),
        (NO_CACHE, {}, "hit"),
        ({"x-fanout": "private"}, {}, "miss"),
        ({}, {"x-fanout": "private"}, "miss"),
        ({}, {"x-generation-key": "k"}, "miss"),
        ({"x-generation-key": "k"}, {}, "miss"),
        ({}, {"x-fanout": "replay"}, "hit"),
        ({"authorization": "Bearer a"}, {"authorization": "Bearer b"}, "miss"),
        ({"openai-beta": "a"}, {"openai-beta": "b"}, "miss"),
    ],
)
async def test_who_gets_an_answer_that_was_kept(
    first: dict[str, str], second: dict[str, str], had: str
) -> None:
    async with open_keeping() as service:
        await ask(service, **first)

        assert (await ask(service, **second))[0] == had


async def test_tenants_do_not_get_each_others() -> None:
    async with open_keeping(gateway=GATEWAY) as service:
        had = [(await ask(service, **who))[0] for who in (ALICE, BOB, ALICE)]

    assert had == ["miss", "miss", "hit"]


async def test_one_that_runs_is_joined_rather_than_one_that_was_kept() -> None:
    async with open_scripted(cache_ttl=60.0, coalesce="identical") as service:
        async with service.ask() as first, service.ask() as second:
            call = await service.upstream.next_call()
            await call.start()
            await call.finish(sse(b"a", b"[DONE]"))
            heads = [await each.response_head() for each in (first, second)]
            bodies = [await each.body() for each in (first, second)]
        async with service.ask() as third:
            head, body = await third.response_head(), await third.body()

    assert {each.headers["x-cache"] for each in heads} == {"miss", "join"}
    assert head.headers["x-cache"] == "hit"
    assert bodies == [body.replace(*ids_of(head, heads[0]))] * 2


def ids_of(*heads: Any) -> list[bytes]:
    return [head.headers["x-generation-id"].encode() for head in heads]


@pytest.mark.parametrize("end", [sse(b'{"error":{"message":"no"}}'), sse(b"a")])
async def test_what_failed_is_not_kept(end: bytes) -> None:
    async with open_scripted(cache_ttl=60.0) as service:
        for _ in range(2):
            async with service.ask() as client:
                call = await service.upstream.next_call()
                await call.start()
                await call.finish(end)
                assert (await client.response_head()).headers["x-cache"] == "miss"
                await client.body()


async def test_a_replay_can_be_cut_resumed_and_stopped() -> None:
    async with open_keeping(cache_replay_rate=20.0, linger=30.0) as service:
        async with service.ask() as client:
            await client.response_head()
            await client.body()
        async with service.ask() as client:
            head = await client.response_head()
            event = await next_event(client)
        generation_id = head.headers["x-generation-id"]
        shown = await service.describe(generation_id)
        async with service.get(
            f"/v1/generations/{generation_id}/events", headers={"last-event-id": str(event.id)}
        ) as client:
            await client.response_head()
            following = await next_event(client)
        stopped = await service.http.delete(f"/v1/generations/{generation_id}")
        await service.wait_released()

    assert shown["state"] == "running"
    assert str(following.id) == f"{generation_id}:2"
    assert stopped.json()["outcome"] == {"kind": "cancelled", "reason": "stopped"}


async def test_a_replay_takes_the_time_that_is_asked_for() -> None:
    async with open_keeping(cache_replay_rate=100.0) as service:
        await ask(service)
        began = trio.current_time()
        assert (await ask(service))[0] == "hit"

    assert trio.current_time() - began >= 0.08  # eight tokens, and what ends them


async def test_over_a_websocket_it_is_told_too() -> None:
    async with open_keeping() as service:
        await ask(service)
        url = service.url.replace("http", "ws") + "/v1/ws"
        async with open_websocket_url(url, subprotocols=["trioproxy.v1"]) as client:
            await client.send_message(
                '{"type":"generate","path":"/v1/completions","body":'
                '{"prompt":"The river","stream":true}}'
            )
            answer = await client.get_message()

    assert '"cache":"hit"' in answer
