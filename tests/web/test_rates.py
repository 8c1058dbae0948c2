"""How often a tenant may ask: who is refused, what is counted, and what is told."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx
import openai
import pytest
import trio

from tests.support.sdks import MESSAGES
from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    CREATION,
    HALF_OF_EIGHT_THEN_SILENCE,
    SimulatedService,
    error_of,
    next_event,
    open_scripted,
    open_simulated,
    read_events,
)
from tests.web.sockets import open_socket
from trioproxy.config import Gateway, TenantEntry
from trioproxy.gateway import hash_key
from trioproxy.web.allowances import write_duration

ALICE, BOB, CAROL, ROOT = (
    {"authorization": f"Bearer tp-{name}"} for name in ("alice", "bob", "carol", "root")
)


def entry(name: str, **own: Any) -> TenantEntry:
    return TenantEntry(name=name, keys=(hash_key(f"tp-{name}".encode()),), **own)


GATEWAY = Gateway(
    tenants=(
        entry("alice"),
        entry("bob", requests_per_minute=3),
        entry("carol", requests_per_minute=float("inf")),
        entry("root", admin=True),
    )
)
LIMIT, REMAINING, RESET = (
    f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset")
)


async def ask(service: SimulatedService, headers: dict[str, str] = ALICE) -> httpx.Response:
    return await service.http.post(COMPLETIONS, json=COMPLETION, headers=headers)


async def test_beyond_its_rate_a_tenant_is_told_when_to_come_back() -> None:
    async with open_simulated(gateway=GATEWAY, requests_per_minute=2) as service:
        taken = [await ask(service) for _ in range(2)]
        refused = await ask(service)
        calls = service.engine.stats.calls
        metrics = await service.http.get("/metrics", headers=ROOT)

    assert [each.status_code for each in taken] == [200, 200]
    assert [each.headers[REMAINING] for each in taken] == ["1", "0"]
    error = error_of(refused)
    assert (refused.status_code, calls) == (429, 2)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 50 < int(refused.headers["retry-after"]) <= 60
    assert 50_000 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert (refused.headers[LIMIT], refused.headers[REMAINING]) == ("2", "0")
    assert re.fullmatch(r"1m0s|5\d(\.\d+)?s", refused.headers[RESET])
    assert '\ntrioproxy_rate_limited_total{reason="requests"} 1.0\n' in metrics.text


async def test_each_tenant_has_a_rate_of_its_own() -> None:
    async with open_simulated(gateway=GATEWAY, requests_per_minute=1) as service:
        statuses = {
            tenant["authorization"].rpartition("-")[2]: [
                (await ask(service, tenant)).status_code for _ in range(4)
            ]
            for tenant in (ALICE, BOB, CAROL, ROOT)
        }
        unlimited = await ask(service, CAROL)

    once = [200, 429, 429, 429]
    three_times = [200, 200, 200, 429]
    assert statuses == {"alice": once, "bob": three_times, "carol": [200] * 4, "root": once}
    assert LIMIT not in unlimited.headers


async def test_a_bucket_lets_some_through_at_once() -> None:
    async with open_simulated(
        requests_per_minute=1, rate_limiter="token-bucket", burst=3
    ) as service:
        answers = [await ask(service, {}) for _ in range(4)]

    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each.headers[REMAINING] for each in answers] == ["2", "1", "0", "0"]
    assert answers[3].headers[LIMIT] == "3"


async def create(service: SimulatedService) -> httpx.Response:
    return await service.http.post("/v1/generations", json=CREATION)


async def forward(service: SimulatedService) -> httpx.Response:
    return await service.http.get("/v1/models")


async def respond(service: SimulatedService) -> httpx.Response:
    body = {"model": "m", "input": "Hello", "background": True}
    return await service.http.post("/v1/responses", json=body)


@pytest.mark.parametrize("asks", [create, forward, respond])
async def test_whatever_reaches_the_engine_is_counted(
    asks: Callable[[SimulatedService], Awaitable[httpx.Response]],
) -> None:
    async with open_simulated(requests_per_minute=2) as service:
        statuses = [(await each(service)).status_code for each in (asks, asks, asks, forward)]

    assert statuses[0] in (200, 201)
    assert statuses == [statuses[0], statuses[0], 429, 429]


async def test_who_joins_is_counted_and_who_reads_on_looks_or_stops_is_not() -> None:
    share = {"x-generation-key": "k"} | HALF_OF_EIGHT_THEN_SILENCE
    async with (
        open_simulated(requests_per_minute=2) as service,
        service.ask(headers=share) as first,
        service.ask(headers=share) as joins,
    ):
        begun, joined = await first.response_head(), await joins.response_head()
        cached = {head.headers["x-cache"] for head in (begun, joined)}
        generation_id = begun.headers["x-generation-id"]
        event = await next_event(first)
        one = f"/v1/generations/{generation_id}"
        looked = [
            await service.http.get(path)
            for path in ("/v1/generations", one, f"{one}/timing", "/healthz", "/metrics")
        ]
        async with service.ask(headers=share | {"last-event-id": event.id or ""}) as resumes:
            resumed = (await resumes.response_head()).status
        async with service.get(f"{one}/events") as reads:
            read = (await reads.response_head()).status
        refused = await ask(service, {})
        stopped = await service.http.delete(one)

    assert (joined.status, cached) == (200, {"miss", "join"})
    assert {each.status_code for each in looked} == {resumed, read, stopped.status_code} == {200}
    assert refused.status_code == 429


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_anthropics_clients_are_told_in_their_words(path: str) -> None:
    body = {"model": "m", "max_tokens": 4, "messages": MESSAGES}
    async with open_simulated(requests_per_minute=1) as service:
        await service.http.post(path, json=body)
        before = datetime.now(UTC)
        refused = await service.http.post(path, json=body)

    error = refused.json()
    assert (refused.status_code, error["type"]) == (429, "error")
    assert error["error"]["type"] == "rate_limit_error"
    told = {
        name: refused.headers[f"anthropic-ratelimit-requests-{name}"]
        for name in ("limit", "remaining", "reset")
    }
    reset = datetime.strptime(told.pop("reset"), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert told == {"limit": "1", "remaining": "0"}
    assert 50 < (reset - before).total_seconds() <= 62


async def test_the_engines_own_limits_are_not_told_for_the_proxys() -> None:
    async with (
        open_scripted(requests_per_minute=5) as service,
        service.get("/v1/models") as client,
    ):
        call = await service.upstream.next_call()
        await call.respond(200, (LIMIT, "999"), body=b"{}")
        head = await client.response_head()

    assert head.headers[LIMIT] == "5"


async def test_over_a_websocket_it_is_an_error_and_the_session_goes_on() -> None:
    asked = {"type": "generate", "path": COMPLETIONS, "body": COMPLETION}
    async with open_simulated(requests_per_minute=1) as service, open_socket(service) as socket:
        started = await socket.ask(**asked)
        await socket.hear_to_end()
        refused = await socket.ask(**asked, ref=2)
        pong = await socket.ask(type="ping", ref=3)

    assert started["type"] == "generation"
    error = refused.pop("error")
    assert refused == {"type": "error", "ref": 2}
    assert (error["code"], error["status"]) == ("rate_limit_exceeded", 429)
    assert 50 < error["retry_after"] <= 60
    assert pong == {"type": "pong", "ref": 3}


async def test_a_live_stream_goes_on_while_its_tenant_is_refused() -> None:
    async with (
        open_simulated(requests_per_minute=1) as service,
        service.ask(headers={"x-sim-rate": "100", "x-sim-tokens": "30"}) as client,
    ):
        await client.response_head()
        await next_event(client)
        refused = [await ask(service, {}) for _ in range(10)]
        rest = await read_events(client)

    assert {each.status_code for each in refused} == {429}
    assert rest[-1].data == b"[DONE]"
    assert len(rest) >= 30


# A bucket of one that takes a second to fill. Left to themselves the SDKs try again after half a
# second at most, and here only once.
ONE_A_SECOND: dict[str, Any] = {
    "requests_per_minute": 60,
    "rate_limiter": "token-bucket",
    "burst": 1,
}


def ask_by_openai(url: str) -> str:
    with openai.OpenAI(
        base_url=f"{url}/v1",
        api_key="any",
        max_retries=1,
        http_client=openai.DefaultHttpxClient(verify=False, trust_env=False),
    ) as client:
        answer = client.chat.completions.create(model="m", messages=MESSAGES)
        return answer.choices[0].message.content or ""


def ask_by_anthropic(url: str) -> str:
    with anthropic.Anthropic(
        base_url=url,
        api_key="any",
        max_retries=1,
        http_client=anthropic.DefaultHttpxClient(verify=False, trust_env=False),
    ) as client:
        message = client.messages.create(model="m", max_tokens=4, messages=MESSAGES)
        [block] = message.content
        assert block.type == "text"
        return block.text


@pytest.mark.parametrize("ask_by", [ask_by_openai, ask_by_anthropic])
async def test_the_official_sdks_come_back_when_told_to(ask_by: Callable[[str], str]) -> None:
    async with open_simulated(**ONE_A_SECOND, default_stream=False) as service:
        texts = [await trio.to_thread.run_sync(ask_by, service.url) for _ in range(2)]
        metrics = await service.http.get("/metrics")

    assert all(texts)
    assert 'trioproxy_rate_limited_total{reason="requests"} 1.0' in metrics.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.3, "300ms"), (6, "6s"), (59.9996, "1m0s"), (60.5, "1m0.5s"), (3600, "60m0s")],
)
def test_a_duration_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert write_duration(seconds) == text
