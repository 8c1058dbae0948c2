"""Whom requests and WebSockets are let in for, where there are tenants."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from trio_websocket import open_websocket_url

from tests.support.websocket import HANDSHAKE
from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    error_of,
    next_event,
    open_scripted,
    open_simulated,
)
from trioproxy.config import Gateway, TenantEntry
from trioproxy.gateway import hash_key
from trioproxy.testing.upstream import sse

ALICE, BOB, ROOT = ({"authorization": f"Bearer tp-{name}"} for name in ("alice", "bob", "root"))
GATEWAY = Gateway(
    tenants=tuple(
        TenantEntry(name=name, keys=(hash_key(f"tp-{name}".encode()),), admin=name == "root")
        for name in ("alice", "bob", "root")
    )
)
OPEN = ["/healthz", "/openapi.json"]
FOR_OPERATORS = ["/metrics", "/debug/census", "/", "/page/page.css"]
FOR_TENANTS = ["/v1/generations", "/v1/generations/gen_x", "/v1/models", "/v1/responses/resp_x"]
RUNNING = HALF_OF_EIGHT_THEN_SILENCE | {"x-linger": "30"}


def open_guarded(**settings: Any):
    return open_simulated(gateway=GATEWAY, **settings)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer tp-mallory"}])
async def test_without_a_key_nothing_is_done(headers: dict[str, str]) -> None:
    async with open_guarded() as service:
        asked = await service.http.post(COMPLETIONS, json=COMPLETION, headers=headers)
        others = [
            await service.http.get(path, headers=headers) for path in FOR_OPERATORS + FOR_TENANTS
        ]
        nowhere = await service.http.get("/nothing", headers=headers)
        public = [await service.http.get(path, headers=headers) for path in OPEN]
        assert service.engine.stats.calls == 0

    assert {each.status_code for each in (asked, *others, nowhere)} == {401}
    error = error_of(asked)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert asked.headers["www-authenticate"] == 'Bearer realm="trioproxy"'
    assert "tp-mallory" not in asked.text
    assert {each.status_code for each in public} == {200}


async def test_a_browser_asks_its_person_for_the_page() -> None:
    async with open_guarded() as service:
        asked = await service.http.get("/")
        told = {"authorization": "Basic " + base64.b64encode(b"me:tp-root").decode()}
        page = await service.http.get("/", headers=told)

    assert asked.headers["www-authenticate"] == 'Basic realm="trioproxy"'
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", FOR_OPERATORS)
async def test_what_operators_see_is_for_admins(path: str) -> None:
    async with open_guarded() as service:
        refused = await service.http.get(path, headers=ALICE)
        answered = await service.http.get(path, headers=ROOT)

    assert (refused.status_code, answered.status_code) == (403, 200)
    assert error_of(refused)["code"] == "not_an_admin"


@pytest.mark.parametrize(
    "headers", [ALICE, {"x-api-key": "tp-alice"}, {"api-key": "tp-alice"}, ALICE | {"x-a": "b"}]
)
async def test_a_tenants_key_never_reaches_the_engine(headers: dict[str, str]) -> None:
    async with open_scripted(gateway=GATEWAY) as service:
        async with service.ask(headers=headers) as client:
            call = await service.upstream.next_call()
            await call.start()
            await call.finish(sse(b"[DONE]"))
            await client.response_head()
            await client.body()
        async with service.get("/v1/models", headers=headers) as client:
            forwarded = await service.upstream.next_call()
            await forwarded.respond(200, body=b"{}")
            await client.response_head()

    for each in (call, forwarded):
        assert not any(b"tp-alice" in value for _, value in each.headers)


KEPT_BY_THE_ENGINE = [
    ("GET", "/v1/files"),
    ("DELETE", "/v1/models/tiny"),
    ("POST", "/v1/batches"),
    ("DELETE", "/v1/responses/resp_x"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/pull"),
    ("GET", "/v1/embeddings"),
]
RESPONSES = [
    ("GET", "/v1/responses/resp_x"),
    ("POST", "/v1/responses/resp_x/cancel"),
]


@pytest.mark.parametrize(("method", "path"), KEPT_BY_THE_ENGINE + RESPONSES)
async def test_what_the_engine_keeps_is_not_for_tenants(method: str, path: str) -> None:
    async with open_scripted(gateway=GATEWAY, upstream_key="sk-engine") as service:
        refused = await service.http.request(method, path, headers=BOB)
        async with service.request(method, path, headers=ROOT) as client:
            call = await service.upstream.next_call()
            await call.respond(200, body=b"{}")
            answered = (await client.response_head()).status

    assert answered == 200
    assert refused.status_code == (404 if (method, path) in RESPONSES else 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/a/b"),
        ("POST", "/v1/embeddings"),
        ("POST", "/api/show"),
    ],
)
async def test_what_it_does_not_keep_is(method: str, path: str) -> None:
    async with (
        open_scripted(gateway=GATEWAY) as service,
        service.request(method, path, headers=BOB) as client,
    ):
        call = await service.upstream.next_call()
        await call.respond(200, body=b"{}")
        assert (await client.response_head()).status == 200


async def test_who_asks_for_health_without_a_key_learns_no_more() -> None:
    async with open_guarded() as service, service.ask(headers=ALICE | RUNNING) as client:
        await client.response_head()
        health = await service.http.get("/healthz")

    assert health.json() == {"status": "ok"}


PASSWORD = {"authorization": "Basic " + base64.b64encode(b"me:tp-root").decode()}


async def test_a_password_that_the_browser_remembers_is_for_own_pages_only() -> None:
    async with open_guarded(cors_origins="*") as service:
        own, foreign, none = [
            await service.http.get("/v1/generations", headers=PASSWORD | origin)
            for origin in ({"origin": service.url}, {"origin": "https://evil.example"}, {})
        ]

    assert (own.status_code, foreign.status_code, none.status_code) == (200, 401, 200)


async def test_a_key_that_a_page_offers_wins_over_the_password() -> None:
    headers = HANDSHAKE | PASSWORD | {"sec-websocket-protocol": "trioproxy.key.tp-alice"}
    async with open_guarded() as service, service.get("/v1/ws", headers=headers) as client:
        assert (await client.response_head()).status == 101


async def test_the_engines_key_goes_in_its_place() -> None:
    async with (
        open_scripted(gateway=GATEWAY, upstream_key="sk-engine") as service,
        service.ask(headers={"x-api-key": "tp-alice"}) as client,
    ):
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sse(b"[DONE]"))
        await client.response_head()
        await client.body()

    assert [value for name, value in call.headers if name == b"x-api-key"] == [b"sk-engine"]


async def test_the_same_request_of_two_tenants_is_two_calls() -> None:
    async with (
        open_guarded(coalesce="identical") as service,
        service.ask(headers=ALICE | RUNNING) as alice,
        service.ask(headers=BOB | RUNNING) as bob,
    ):
        heads = [await client.response_head() for client in (alice, bob)]
        calls = service.engine.stats.calls

    assert calls == 2
    assert heads[0].headers["x-generation-id"] != heads[1].headers["x-generation-id"]


@pytest.mark.parametrize(
    ("headers", "status"), [(ALICE, 200), (ROOT, 200), (BOB, 404), ({"x-api-key": "x"}, 401)]
)
async def test_a_generation_is_its_tenants_and_the_operators(
    headers: Mapping[str, str], status: int
) -> None:
    async with open_guarded() as service, service.ask(headers=ALICE | RUNNING) as client:
        generation_id = (await client.response_head()).headers["x-generation-id"]
        await next_event(client)
        one = f"/v1/generations/{generation_id}"
        shown = await service.http.get(one, headers=headers)
        timed = await service.http.get(f"{one}/timing", headers=headers)
        listed = await service.http.get("/v1/generations", headers=headers)
        async with service.get(f"{one}/events", headers=headers) as reader:
            read = (await reader.response_head()).status
        stopped = await service.http.delete(one, headers=headers)

    assert {shown.status_code, timed.status_code, read, stopped.status_code} == {status}
    if status != 401:
        ids = [generation["id"] for generation in listed.json()["data"]]
        assert ids == ([generation_id] if status == 200 else [])


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [(ALICE, None), ({}, ["trioproxy.v1", "trioproxy.key.tp-alice"])],
)
async def test_a_websocket_brings_its_key_in_a_header_or_a_subprotocol(
    headers: dict[str, str], subprotocols: list[str] | None
) -> None:
    async with open_guarded() as service:
        url = service.url.replace("http", "ws") + "/v1/ws"
        async with open_websocket_url(
            url,
            extra_headers=[(k.encode(), v.encode()) for k, v in headers.items()],
            subprotocols=subprotocols,
        ) as socket:
            asked = {"type": "generate", "path": COMPLETIONS, "body": COMPLETION, "ref": 1}
            await socket.send_message(json.dumps(asked))
            answer = json.loads(await socket.get_message())
            listed = await service.http.get("/v1/generations", headers=ALICE)

    assert answer["type"] == "generation"
    assert [each["id"] for each in listed.json()["data"]] == [answer["generation"]]
    assert socket.subprotocol == (subprotocols and "trioproxy.v1")


@pytest.mark.parametrize("offered", ["trioproxy.v1", "trioproxy.v1, trioproxy.key.tp-mallory"])
async def test_a_websocket_without_a_key_is_refused(offered: str) -> None:
    headers = HANDSHAKE | {"sec-websocket-protocol": offered}
    async with open_guarded() as service, service.get("/v1/ws", headers=headers) as client:
        assert (await client.response_head()).status == 401
        assert json.loads(await client.body())["error"]["code"] == "invalid_api_key"
