"""Too much for now, and too much for one: what is new is refused, what runs goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.support.rawhttp import open_client
from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    CREATION,
    FAST,
    HALF_OF_EIGHT_THEN_SILENCE,
    Service,
    assert_answers,
    next_event,
    open_simulated,
    read_events,
    refusal_of,
)
from tests.web.sockets import open_socket
from tests.web.test_limits import assert_is_to_try_later
from trioproxy.config import Gateway, Settings, TenantEntry
from trioproxy.gateway import hash_key
from trioproxy.serving import open_proxy
from trioproxy.simulator import open_engine
from trioproxy.telemetry import LoopLag, Telemetry
from trioproxy.telemetry import lag as lag_module

ALICE, BOB, ROOT = ({"authorization": f"Bearer tp-{name}"} for name in ("alice", "bob", "root"))
RUNNING = HALF_OF_EIGHT_THEN_SILENCE
SHARED = {"x-generation-key": "k"}


def gateway(**bobs: Any) -> Gateway:
    return Gateway(
        tenants=(
            TenantEntry(name="alice", keys=(hash_key(b"tp-alice"),)),
            TenantEntry(name="bob", keys=(hash_key(b"tp-bob"),), **bobs),
            TenantEntry(name="root", keys=(hash_key(b"tp-root"),), admin=True),
        )
    )


async def ask(service: Service, headers: dict[str, str] | None = None) -> httpx.Response:
    return await service.http.post(COMPLETIONS, content=json.dumps(COMPLETION), headers=headers)


@asynccontextmanager
async def open_late(max_loop_lag: float = 0.5) -> AsyncGenerator[tuple[Service, LoopLag]]:
    """A proxy that believes what a test says of its event loop."""
    telemetry = Telemetry()
    async with (
        open_engine(settings=FAST) as engine,
        open_proxy(
            Settings(
                bind="127.0.0.1:0", upstream=engine.url, debug=True, max_loop_lag=max_loop_lag
            ),
            upstream_url=engine.url,
            telemetry=telemetry,
        ) as proxy,
        httpx.AsyncClient(base_url=proxy.binds[0], trust_env=False) as http,
    ):
        yield Service(proxy.binds[0], proxy, http), telemetry.metrics.loop_lag


async def assert_only_new_calls_are_refused(service: Service, reason: str) -> None:
    """Beside the generation that runs under ``SHARED``, of which four events have come: it can be
    joined, read and stopped, and its reader goes on."""
    [generation_id] = [each.id for each in service.proxy.hub.running]
    one = f"/v1/generations/{generation_id}"
    refusals = [await ask(service), await service.http.post("/v1/generations", json=CREATION)]
    async with open_socket(service) as socket:
        said = await socket.ask(type="generate", path=COMPLETIONS, body=COMPLETION)
        watched = await socket.ask(type="subscribe", generation=generation_id)
    async with service.ask(headers=SHARED) as joins:
        joined = (await joins.response_head()).headers["x-cache"]
        event = await next_event(joins)
    async with service.ask(headers={"last-event-id": event.id or ""}) as resumes:
        resumed = (await resumes.response_head()).status
    metrics = await service.http.get("/metrics")
    stopped = await service.http.delete(one)

    for refused in refusals:
        assert_is_to_try_later(refused, 503, "server_error", "overloaded")
    assert (said["type"], said["error"]["code"]) == ("error", "overloaded")
    assert watched["type"] == "subscribed"
    assert (joined, resumed, stopped.status_code) == ("join", 200, 200)
    assert f'\ntrioproxy_shed_total{{reason="{reason}"}} 3.0\n' in metrics.text


async def test_while_the_loop_is_late_new_calls_are_refused_and_live_streams_go_on() -> None:
    async with (
        open_late() as (service, lag),
        service.ask(headers=SHARED | RUNNING) as running,
        service.ask(headers={"x-sim-rate": "50", "x-sim-tokens": "20"}) as live,
    ):
        for client in (running, live):
            await client.response_head()
            await next_event(client)
        lag.observe(0.6)
        forwarded = await service.http.get("/v1/models")
        refused = await ask(service)
        rest = await read_events(live)

        assert_is_to_try_later(refused, 503, "server_error", "overloaded")
        assert_is_to_try_later(forwarded, 503, "server_error", "overloaded")
        assert rest[-1].data == b"[DONE]"
        assert len(rest) >= 19


async def test_whoever_joins_reads_on_or_stops_is_never_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lag_module, "RECENT_SECONDS", 60.0)
    async with open_late() as (service, lag), service.ask(headers=SHARED | RUNNING) as running:
        await running.response_head()
        await service.wait_events(4)
        lag.observe(0.6)

        await assert_only_new_calls_are_refused(service, "lag")


@pytest.mark.parametrize("limit", [0.7, float("inf")])
async def test_a_loop_that_is_late_enough_is_a_matter_of_settings(limit: float) -> None:
    async with open_late(max_loop_lag=limit) as (service, lag):
        lag.observe(0.6)
        answered = await ask(service)

    assert answered.status_code == 200


async def test_beyond_all_that_may_run_new_calls_are_refused() -> None:
    async with open_simulated(max_total_generations=1) as service:
        async with service.ask(headers=SHARED | RUNNING) as running:
            await running.response_head()
            await service.wait_events(4)

            await assert_only_new_calls_are_refused(service, "generations")
        await service.wait_released()
        await assert_answers(service)


async def test_while_what_runs_fills_the_memory_new_calls_are_refused() -> None:
    stalled = {"x-sim-fail": "stall", "x-sim-tokens": "200", "x-linger": "30"}
    async with (
        open_simulated(max_hub=20_000) as service,
        service.ask(headers=SHARED | stalled) as running,
    ):
        await running.response_head()
        await service.wait_events(100)
        refused = await ask(service)
        metrics = await service.http.get("/metrics")
        generation_id = running.head.headers["x-generation-id"]
        async with service.get(f"/v1/generations/{generation_id}/events") as reads:
            read = (await reads.response_head()).status

    assert_is_to_try_later(refused, 503, "server_error", "overloaded")
    assert '\ntrioproxy_shed_total{reason="memory"} 1.0\n' in metrics.text
    assert read == 200


async def test_one_tenant_takes_every_slot_and_another_is_still_served() -> None:
    async with (
        open_simulated(gateway=gateway(), max_generations=2) as service,
        service.ask(headers=ALICE | RUNNING) as one,
        service.ask(headers=ALICE | RUNNING) as other,
    ):
        for client in (one, other):
            await client.response_head()
        refused = [await ask(service, ALICE) for _ in range(20)]
        served = [await ask(service, BOB) for _ in range(3)]
        metrics = await service.http.get("/metrics", headers=ROOT)

    for each in refused:
        assert_is_to_try_later(each, 429, "rate_limit_error", "too_many_generations")
    assert {each.status_code for each in served} == {200}
    assert '\ntrioproxy_rate_limited_total{reason="generations"} 20.0\n' in metrics.text


async def test_a_tenant_may_run_as_many_as_its_own_table_says() -> None:
    async with (
        open_simulated(gateway=gateway(max_generations=1), max_generations=9) as service,
        service.ask(headers=BOB | RUNNING) as client,
    ):
        await client.response_head()

        assert (await ask(service, BOB)).status_code == 429
        assert (await ask(service, ALICE)).status_code == 200


async def test_a_tenant_may_have_so_many_readers_in_all() -> None:
    async with (
        open_simulated(gateway=gateway(max_subscribers=1), max_tenant_subscribers=2) as service,
        service.ask(headers=BOB | RUNNING) as bobs,
        service.ask(headers=ALICE | RUNNING) as one,
        service.ask(headers=ALICE | RUNNING) as other,
    ):
        for client in (bobs, one, other):
            await client.response_head()
        refused = [await ask(service, headers) for headers in (ALICE, BOB)]
        calls = service.engine.stats.calls

    for each in refused:
        assert_is_to_try_later(each, 429, "rate_limit_error", "too_many_subscribers")
    assert calls == 3


async def test_a_generation_ends_when_it_has_run_for_so_long() -> None:
    async with open_simulated(max_duration=0.2) as service, service.ask(headers=RUNNING) as client:
        generation_id = (await client.response_head()).headers["x-generation-id"]
        events = await read_events(client)
        outcome = await service.outcome_of(generation_id)
        await service.wait_aborted(1)

    assert json.loads(events[-2].data)["error"]["code"] == "deadline"
    assert outcome == {"kind": "cancelled", "reason": "deadline"}


BODIES: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"prompt": "x" * 101},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x" * 101}]},
    "/v1/responses": {"input": "x" * 101},
    "/api/generate": {"model": "m", "prompt": "x" * 101},
}


@pytest.mark.parametrize("path", BODIES)
async def test_a_prompt_over_the_limit_is_too_large(path: str) -> None:
    async with open_simulated(max_prompt=100) as service:
        refused = await service.http.post(path, json=BODIES[path])
        created = await service.http.post(
            "/v1/generations", json={"path": path, "body": BODIES[path]}
        )
        taken = await service.http.post(COMPLETIONS, json={"prompt": "x" * 100, "user": "y" * 99})
        calls = service.engine.stats.calls

    assert (refused.status_code, refusal_of(created)) == (413, (413, "prompt_too_large"))
    assert (taken.status_code, calls) == (200, 1)


async def test_anthropics_clients_are_told_so_in_their_words() -> None:
    body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "x" * 101}]}
    async with open_simulated(max_prompt=100) as service:
        refused = await service.http.post("/v1/messages", json=body)

    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")


async def test_a_head_over_the_limit_is_refused() -> None:
    head = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n"
    room = 2_000 - len(head.format(""))
    statuses: list[int] = []
    async with open_simulated(max_head=2_000) as service:
        for length in (room, room + 1, 100_000):
            async with open_client(service.url) as client:
                await client.send(head.format("x" * length).encode())
                statuses.append((await client.response_head()).status)

        await assert_answers(service)
    assert statuses == [200, 431, 431]
