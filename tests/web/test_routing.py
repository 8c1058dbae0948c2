"""Several upstreams behind one address."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import trio
from trio_websocket import open_websocket_url

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    NOBODY_THERE,
    Service,
    error_of,
    open_scripted,
    open_service,
)
from trioproxy.config import Gateway, RouteEntry, TargetEntry, UpstreamEntry
from trioproxy.simulator import EngineSettings, SimulatedEngine, open_engine
from trioproxy.simulator.text import generate_text
from trioproxy.testing.upstream import ScriptedUpstream, open_upstream, sse

CALLS = 500
AT_ONCE = 50
TOKENS = 12
MODELS = ("small", "large")
NAMED = {"prompt": "x", "stream": True}


def routed(
    upstreams: dict[str, str], *routes: RouteEntry, options: dict[str, Any] | None = None
) -> Gateway:
    entries = tuple(
        UpstreamEntry(name=name, url=url, **(options or {})) for name, url in upstreams.items()
    )
    return Gateway(upstreams=entries, routes=routes)


def to(*names: str, **models: str) -> tuple[TargetEntry, ...]:
    """The first, and the others where it cannot answer."""
    return tuple(
        TargetEntry(upstream=name, weight=float(not place), model=models.get(name))
        for place, name in enumerate(names)
    )


@asynccontextmanager
async def open_routed(gateway: Gateway, **settings: Any) -> AsyncGenerator[Service]:
    async with open_service("", upstream=None, gateway=gateway, **settings) as service:
        yield service


@pytest.mark.parametrize("streams", [b"true", b"false"])
async def test_a_body_that_cannot_have_another_models_name_is_refused_before_it_is_a_generation(
    streams: bytes,
) -> None:
    body = b'{"model":"fast","stream":%b,"\xff":1}' % streams  # JSON is UTF-8 (RFC 8259, 8.1)
    async with open_upstream() as one:
        route = RouteEntry(model="fast", to=to("one", one="llama-3.2-1b"))
        async with open_routed(routed({"one": one.url}, route)) as service:
            refused = await service.http.post(COMPLETIONS, content=body)
            generations = await service.list_generations()

    assert (refused.status_code, generations) == (400, [])
    assert error_of(refused)["type"] == "invalid_request_error"


async def test_each_model_is_asked_of_the_upstream_that_has_it() -> None:
    async with open_upstream() as one, open_upstream() as other:
        gateway = routed(
            {"one": one.url, "other": other.url},
            RouteEntry(model="fast", to=to("one", one="llama-3.2-1b")),
            RouteEntry(model="gpt-*", to=to("other")),
        )
        async with open_routed(gateway) as service:
            for model, upstream in (("fast", one), ("gpt-4o", other)):
                async with service.ask(NAMED | {"model": model}) as client:
                    call = await upstream.next_call()
                    await call.start()
                    await call.finish(sse(b'{"model":"whatever it says"}', b"[DONE]"))
                    await client.response_head()
                    body = await client.body()
                named = {"fast": "llama-3.2-1b"}.get(model, model)
                assert json.loads(call.body) == NAMED | {"model": named}
                assert b'{"model":"whatever it says"}' in body
            unknown = await service.http.post(COMPLETIONS, json=NAMED | {"model": "claude"})
            census = (await service.http.get("/debug/census")).json()

    assert unknown.status_code == 404
    assert error_of(unknown)["code"] == "model_not_found"
    assert census["generations"] == 0


async def test_over_a_websocket_an_unknown_model_is_told_and_the_session_goes_on() -> None:
    async with open_upstream() as upstream:
        gateway = routed({"one": upstream.url}, RouteEntry(model="fast", to=to("one")))
        async with open_routed(gateway) as service:
            url = service.url.replace("http", "ws") + "/v1/ws"
            async with open_websocket_url(url, subprotocols=["trioproxy.v1"]) as client:
                told: list[dict[str, Any]] = []
                for model in ("slow", "fast"):
                    asked = {"type": "generate", "path": COMPLETIONS, "body": {"model": model}}
                    await client.send_message(json.dumps(asked))
                    told.append(json.loads(await client.get_message()))

    assert (told[0]["type"], told[0]["error"]["code"]) == ("error", "model_not_found")
    assert told[1]["type"] == "generation"


async def test_each_upstream_has_its_own_key_and_headers() -> None:
    async with open_upstream() as upstream:
        entry = UpstreamEntry(
            name="cloud", url=upstream.url, key="sk-cloud", headers={"X-Team": "infra"}
        )
        async with open_routed(Gateway(upstreams=(entry,))) as service:
            sent = {"authorization": "Bearer sk-mine", "x-team": "mine", "x-request-id": "r-1"}
            async with service.ask(headers=sent) as client:
                call = await upstream.next_call()
                await call.start(
                    200,
                    ("content-type", "text/event-stream"),
                    ("x-request-id", "req_7"),
                    ("x-ratelimit-remaining-requests", "59"),
                    ("set-cookie", "a=b"),
                )
                await call.write(sse(b"a"))
                head = await client.response_head()

    headers = dict(call.headers)
    assert (headers[b"authorization"], headers[b"x-team"]) == (b"Bearer sk-cloud", b"infra")
    assert headers[b"x-request-id"] == b"r-1"
    assert head.headers["x-request-id"] == "req_7"
    assert head.headers["x-ratelimit-remaining-requests"] == "59"
    assert "set-cookie" not in head.headers


async def list_models(upstream: ScriptedUpstream, *ids: str) -> None:
    while True:
        call = await upstream.next_call(within=float("inf"))
        data = [{"id": each, "object": "model", "owned_by": "them"} for each in ids]
        body = json.dumps({"object": "list", "data": data}).encode()
        await call.respond(200, ("content-type", "application/json"), body=body)


async def test_clients_credentials_go_only_to_an_upstream_that_is_to_have_them() -> None:
    sent = {"authorization": "Bearer sk-mine"}
    async with open_upstream() as upstream:
        for forwards in (False, True):
            entry = UpstreamEntry(name="a", url=upstream.url, forward_credentials=forwards)
            gateway = Gateway(upstreams=(entry,))
            async with open_routed(gateway) as service, service.ask(headers=sent):
                call = await upstream.next_call()
            assert ((b"authorization", b"Bearer sk-mine") in call.headers) is forwards


async def test_who_lists_models_is_counted() -> None:
    gateway = routed({"a": NOBODY_THERE, "b": NOBODY_THERE})
    async with open_routed(gateway, requests_per_minute=2.0) as service:
        statuses = [(await service.http.get("/v1/models")).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


async def test_a_model_with_a_long_name_has_its_route() -> None:
    name = f"/models/{200 * 'x'}.gguf"
    async with open_upstream() as upstream:
        gateway = routed({"a": upstream.url}, RouteEntry(model="*.gguf", to=to("a", a="short")))
        async with open_routed(gateway) as service, service.ask(NAMED | {"model": name}):
            call = await upstream.next_call()

    assert json.loads(call.body)["model"] == "short"


async def test_models_are_listed_by_the_names_that_can_be_asked_for() -> None:
    async with open_upstream() as one, open_upstream() as other, trio.open_nursery() as nursery:
        nursery.start_soon(list_models, one, "llama", "hidden")
        nursery.start_soon(list_models, other, "gpt-4o", "llama")
        gateway = routed(
            {"one": one.url, "other": other.url, "down": NOBODY_THERE},
            RouteEntry(model="fast", to=to("one", one="llama")),
            RouteEntry(model="slow", to=to("down", down="x")),
            RouteEntry(model="gpt-*", to=to("other", "down")),
            RouteEntry(model="llama", to=to("other")),
        )
        async with open_routed(gateway) as service:
            listed = (await service.http.get("/v1/models")).json()
            client = openai.AsyncOpenAI(
                base_url=f"{service.url}/v1", api_key="k", http_client=service.http
            )
            by_sdk = [model.id async for model in client.models.list()]
            fast = (await service.http.get("/v1/models/fast")).json()
            missing = await service.http.get("/v1/models/hidden")
        nursery.cancel_scope.cancel()

    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["fast", "slow", "gpt-4o", "llama"]
    assert by_sdk == ["fast", "slow", "gpt-4o", "llama"]
    assert fast == {"id": "fast", "object": "model", "owned_by": "them"}
    assert (missing.status_code, error_of(missing)["code"]) == (404, "model_not_found")


async def test_with_one_upstream_its_list_of_models_is_its_own() -> None:
    async with open_scripted() as service, service.get("/v1/models") as client:
        call = await service.upstream.next_call()
        await call.respond(200, ("content-type", "application/json"), body=b'{"mine": 1 }')
        await client.response_head()
        assert await client.body() == b'{"mine": 1 }'


async def test_what_names_no_model_goes_where_the_first_route_leads() -> None:
    async with open_upstream() as one, open_upstream() as other:
        gateway = routed(
            {"one": one.url, "other": other.url}, RouteEntry(model="m", to=to("other"))
        )
        async with open_routed(gateway) as service:
            async with service.get("/v1/files") as client:
                call = await other.next_call()
                await call.respond(200, body=b"[]")
                await client.response_head()
                assert await client.body() == b"[]"
            async with service.ask({"model": "m", "input": "x"}, path="/v1/embeddings") as client:
                call = await other.next_call()
                await call.respond(200, body=b"{}")
                await client.response_head()
                assert await client.body() == b"{}"


async def test_where_no_upstream_is_well_it_is_told_and_when_to_come_back() -> None:
    gateway = routed(
        {"down": NOBODY_THERE},
        RouteEntry(model="*", to=to("down"), retries=0),
        options={"breaker_failures": 1},
    )
    async with open_routed(gateway) as service:
        first = await service.http.post(COMPLETIONS, json=COMPLETION)
        second = await service.http.post(COMPLETIONS, json=COMPLETION)

    assert (first.status_code, error_of(first)["code"]) == (502, "upstream_unreachable")
    assert (second.status_code, error_of(second)["code"]) == (503, "upstream_unavailable")
    assert 8 <= int(second.headers["retry-after"]) <= 10
    assert 8_000 <= int(second.headers["retry-after-ms"]) <= 10_000


async def test_calls_over_a_bad_a_slow_and_a_good_upstream_are_each_answered_once() -> None:
    """500 calls, 50 at a time: every answer is whole, once and its own; the metrics tell how."""
    random.seed(3)
    told: list[str] = []

    async def ask(service: Service, number: int, places: trio.CapacityLimiter) -> None:
        prompt = f"n{number}"
        body = {"prompt": prompt, "stream": number % 4 != 0, "max_tokens": TOKENS}
        async with places:
            answer = await service.http.post(COMPLETIONS, json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-cache"] == "miss"
        if body["stream"]:
            *chunks, done = [line[6:] for line in answer.text.splitlines() if line[:5] == "data:"]
            assert done == "[DONE]"
        else:
            chunks = [answer.text]
        choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
        # The engine's text is a function of the prompt.
        assert "".join(each["text"] for each in choices) == "".join(generate_text(prompt, TOKENS))
        assert [each["finish_reason"] for each in choices if each["finish_reason"]] == ["length"]
        told.append(answer.headers["x-generation-id"])

    slow = EngineSettings(rate=0, ttft=5)
    good = EngineSettings(rate=0, ttft=0)
    async with open_engine(settings=slow) as sluggish, open_engine(settings=good) as healthy:
        upstreams = (
            UpstreamEntry(name="down", url=NOBODY_THERE, breaker_seconds=1.0),
            UpstreamEntry(
                name="slow", url=sluggish.url, first_token_timeout=0.2, breaker_seconds=1.0
            ),
            UpstreamEntry(name="good", url=healthy.url),
        )
        async with open_routed(Gateway(upstreams=upstreams)) as service:
            places = trio.CapacityLimiter(AT_ONCE)
            async with trio.open_nursery() as nursery:
                for number in range(CALLS):
                    nursery.start_soon(ask, service, number, places)
            await service.wait_released()
            metrics = (await service.http.get("/metrics")).text
            assert len(set(told)) == len(told) == CALLS
            assert completed(healthy) == CALLS
            assert completed(sluggish) == 0

    figures = figures_in(metrics)
    assert figures['requests_total{result="answered",upstream="good"}'] == CALLS
    failed = figures['requests_total{result="unreachable",upstream="down"}']
    silent = figures['requests_total{result="timeout",upstream="slow"}']
    assert 5 <= failed < CALLS / 4  # the breaker keeps most calls from it
    assert 5 <= silent < CALLS / 4
    assert figures['fallbacks_total{upstream="down"}'] == failed
    assert figures['fallbacks_total{upstream="slow"}'] == silent
    assert figures['breaker{state="closed",upstream="good"}'] == 1
    assert figures['breaker{state="closed",upstream="down"}'] == 0


def completed(engine: SimulatedEngine) -> int:
    return engine.stats.completed


def figures_in(metrics: str) -> Counter[str]:
    """The samples that tell of upstreams, by what follows their common beginning."""
    prefix, figures = "trioproxy_upstream_", Counter[str]()
    for line in metrics.splitlines():
        if line.startswith(prefix):
            name, _, value = line.removeprefix(prefix).rpartition(" ")
            figures[name] = int(float(value))
    return figures
