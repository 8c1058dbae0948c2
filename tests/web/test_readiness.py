"""`/readyz`: whether it is worth while to send calls here."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.web.service import (
    HALF_OF_EIGHT_THEN_SILENCE,
    NOBODY_THERE,
    open_scripted,
    open_service,
    open_simulated,
)
from trioproxy.config import Gateway, TenantEntry, UpstreamEntry
from trioproxy.gateway import hash_key
from trioproxy.testing.upstream import UpstreamCall, open_upstream
from trioproxy.web.readiness import FRESH_SECONDS, Readiness

READY = (200, {"status": "ready"})
UPSTREAM = (503, {"status": "unready", "reason": "upstream"})
DRAINING = (503, {"status": "unready", "reason": "draining"})


async def test_it_is_ready_for_everybody_who_asks() -> None:
    guarded = Gateway(tenants=(TenantEntry(name="a", keys=(hash_key(b"tp-a"),)),))
    async with open_simulated(gateway=guarded) as service:
        answer = await service.http.get("/readyz")
        head = await service.http.head("/readyz")

    assert (answer.status_code, answer.json()) == READY
    assert (head.status_code, head.content) == (200, b"")


async def test_without_an_engine_it_is_not_ready() -> None:
    async with open_service(NOBODY_THERE) as service:
        answer = await service.http.get("/readyz")
        health = await service.http.get("/healthz")

    assert (answer.status_code, answer.json()) == UPSTREAM
    assert health.status_code == 200


@pytest.mark.parametrize(
    ("status", "expected"), [(200, READY), (401, READY), (404, READY), (503, UPSTREAM)]
)
async def test_an_engine_that_cannot_serve_yet_is_not_there(
    status: int, expected: tuple[int, dict[str, str]]
) -> None:
    async with open_scripted() as service, service.get("/readyz") as client:
        call = await service.upstream.next_call()
        await call.start(status)
        await call.finish(b"{}")
        head = await client.response_head()
        told = json.loads(await client.body())

    assert (call.method, call.target) == ("GET", b"/health")
    assert (head.status, told) == expected


async def test_an_engine_is_asked_for_the_path_that_its_table_names() -> None:
    async with open_upstream() as upstream:
        entry = UpstreamEntry(name="a", url=upstream.url, health="/alive", health_interval=1000)
        gateway = Gateway(upstreams=(entry,))
        async with open_service("", upstream=None, gateway=gateway) as service:
            await answer_well(await upstream.next_call())  # who watches it asks too
            async with service.get("/readyz") as client:
                call = await upstream.next_call()
                await answer_well(call)
                head = await client.response_head()

    assert (call.method, call.target) == ("GET", b"/alive")
    assert head.status == 200


async def answer_well(call: UpstreamCall) -> None:
    await call.start(200)
    await call.finish(b"{}")


async def test_an_engine_that_takes_the_question_and_says_nothing_is_not_there() -> None:
    async with open_scripted(connect_timeout=0.2) as service, service.get("/readyz") as client:
        await service.upstream.next_call()
        head = await client.response_head()

        assert (head.status, json.loads(await client.body())) == UPSTREAM


async def test_a_client_that_leaves_takes_the_question_with_it() -> None:
    async with open_scripted() as service:
        async with service.get("/readyz"):
            call = await service.upstream.next_call()
        await call.wait_departure()

        async with service.get("/readyz") as client:
            call = await service.upstream.next_call()
            await call.start(200)
            await call.finish(b"{}")
            assert (await client.response_head()).status == 200
        await service.wait_released()


async def test_it_lives_and_is_not_ready_while_it_drains() -> None:
    async with (
        open_simulated(drain=5.0) as service,
        trio.open_nursery() as tasks,
        AsyncExitStack() as clients,
    ):
        enter = clients.enter_async_context
        reader = await enter(service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE))
        await reader.response_head()
        asking = [await enter(service.get("/openapi.json")) for _ in range(2)]
        for client in asking:
            await client.response_head()
            await client.body()
        tasks.start_soon(service.proxy.shutdown)
        await wait_all_tasks_blocked()

        told: list[tuple[int, object]] = []
        for client, path in zip(asking, ["/readyz", "/healthz"], strict=True):
            await client.request("GET", path)
            head = await client.response_head()
            told.append((head.status, json.loads(await client.body())))
        reader.close()

    assert told == [DRAINING, (200, {"status": "ok", "generations": 1, "subscribers": 1})]


# -- asked seldom ----------------------------------------------------------------------------------


class Engine:
    """It takes a second to answer. ``asked`` is when."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.is_there = True

    async def ask(self) -> bool:
        self.asked.append(trio.current_time())
        await trio.sleep(1)
        return self.is_there


async def test_many_who_ask_at_once_are_one_question(autojump_clock: MockClock) -> None:
    engine = Engine()
    readiness = Readiness(engine.ask)
    told: list[bool] = []

    async def ask() -> None:
        told.append(await readiness())

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)

    assert told == [True] * 10
    assert len(engine.asked) == 1


async def test_an_answer_holds_for_a_while_and_no_longer(autojump_clock: MockClock) -> None:
    engine = Engine()
    readiness = Readiness(engine.ask)
    start = trio.current_time()
    assert await readiness()
    engine.is_there = False

    await trio.sleep(FRESH_SECONDS / 2)
    assert await readiness()
    await trio.sleep(FRESH_SECONDS / 2)
    assert not await readiness()

    assert engine.asked == [start, start + 1 + FRESH_SECONDS]


async def test_when_who_asks_leaves_the_next_one_asks(autojump_clock: MockClock) -> None:
    engine = Engine()
    readiness = Readiness(engine.ask)
    told: list[bool] = []

    async def ask() -> None:
        told.append(await readiness())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(ask)
            await readiness()

    assert told == [True]
    assert len(engine.asked) == 2
