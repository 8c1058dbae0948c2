"""One tenant after what is another's: by its key, by the id of what it runs, by guessing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.attacks.engine import answer
from tests.attacks.standing import Attacked, open_attacked
from tests.support.websocket import HANDSHAKE
from tests.web.service import COMPLETION, COMPLETIONS, next_event
from tests.web.sockets import open_socket
from tests.web.test_door import ALICE, BOB, GATEWAY, ROOT

SECRET = "what alice was told"
HALF = answer(b'data: {"choices":[{"text":"%b"}]}\n\n' % SECRET.encode()).replace(
    b"content-length: ", b"content-length: 9"
)
"""An answer that goes on for ever."""

RESPONSE = answer(
    b'event: response.created\ndata: {"type":"response.created","response":'
    b'{"id":"resp_alice","status":"in_progress","output":"%b"}}\n\n' % SECRET.encode()
).replace(b"content-length: ", b"content-length: 9")


@asynccontextmanager
async def open_with_alices(
    path: str, body: dict[str, object], sent: bytes, **headers: str
) -> AsyncGenerator[tuple[Attacked, str]]:
    """A proxy over which alice has a generation that runs, and its id."""
    async with open_attacked(gateway=GATEWAY, credentials=ROOT) as service:
        service.engine.answer = sent
        async with service.ask(body, path=path, headers=ALICE | headers) as client:
            generation_id = (await client.response_head()).headers["x-generation-id"]
            await next_event(client)
            yield service, generation_id
            assert service.proxy.hub.get(generation_id).outcome is None, "somebody has stopped it"
            await service.http.delete(f"/v1/generations/{generation_id}", headers=ALICE)


def assert_is_none(answered: httpx.Response, status: int = 404) -> None:
    assert answered.status_code == status
    assert SECRET not in answered.text
    assert "x-generation-id" not in answered.headers


@pytest.mark.parametrize("mode", ["replay", "live"])
async def test_the_same_prompt_and_the_same_name_are_two_calls(mode: str) -> None:
    named = {"x-generation-key": "mine", "x-fanout": mode}
    async with open_with_alices(COMPLETIONS, COMPLETION, HALF, **named) as (service, alices):
        async with service.ask(headers=BOB | named) as client:
            head = await client.response_head()

        assert len(service.engine.requests()) == 2
    assert head.headers["x-cache"] == "miss"
    assert head.headers["x-generation-id"] != alices


@pytest.mark.parametrize("seq", [0, 1, 2, 10**14])
async def test_an_event_id_resumes_nothing_of_a_strangers(seq: int) -> None:
    async with open_with_alices(COMPLETIONS, COMPLETION, HALF) as (service, alices):
        event_id = BOB | {"last-event-id": f"{alices}:{seq}"}
        one = f"/v1/generations/{alices}"
        for asked in [
            await service.http.post(COMPLETIONS, json=COMPLETION, headers=event_id),
            await service.http.post(
                f"{COMPLETIONS}?last_event_id={alices}:{seq}", json=COMPLETION, headers=BOB
            ),
            await service.http.get(f"{one}/events", headers=event_id),
            await service.http.get(f"{one}/events?last_event_id={seq}", headers=BOB),
        ]:
            assert_is_none(asked)

        assert len(service.engine.requests()) == 1


@pytest.mark.parametrize("end", ["", "/timing", "/events", "/events?mode=live"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_an_id_opens_nothing(method: str, end: str) -> None:
    async with open_with_alices(COMPLETIONS, COMPLETION, HALF) as (service, alices):
        for path in (f"/v1/generations/{alices}{end}", f"/v1/generations/gen_{'0' * 32}{end}"):
            asked = await service.http.request(method, path, headers=BOB)
            assert_is_none(asked, 405 if method == "DELETE" and end else 404)


async def test_over_a_websocket_nothing_of_it_can_be_had() -> None:
    async with open_with_alices(COMPLETIONS, COMPLETION, HALF) as (service, alices):
        async with open_socket(service, headers=BOB) as socket:
            for kind in ("subscribe", "cancel", "unsubscribe"):
                refused = await socket.ask(type=kind, generation=alices)
                assert refused["error"]["code"] == "generation_not_found"
        async with open_socket(service, f"/v1/generations/{alices}/ws", headers=BOB) as socket:
            assert await socket.wait_closed() == (1008, "generation_not_found")
        for headers in ({}, {"sec-websocket-protocol": "trioproxy.v1, trioproxy.key.tp-mallory"}):
            refusal = await service.http.get(
                f"/v1/generations/{alices}/ws",
                headers={"authorization": "", **HANDSHAKE, **headers},
            )
            assert_is_none(refusal, 401)


@pytest.mark.parametrize("background", [True, False])
async def test_a_response_is_nobody_elses(background: bool) -> None:
    body = {"input": "a", "stream": True, "background": background}
    async with open_with_alices("/v1/responses", body, RESPONSE) as (service, _):
        own = await service.http.get("/v1/responses/resp_alice", headers=ALICE)
        for method, path in [
            ("GET", "/v1/responses/resp_alice"),
            ("GET", "/v1/responses/resp_alice?stream=true"),
            ("POST", "/v1/responses/resp_alice/cancel"),
        ]:
            assert_is_none(await service.http.request(method, path, headers=BOB))
        deleted = await service.http.delete("/v1/responses/resp_alice", headers=BOB)

        assert len(service.engine.requests()) == 1
        assert deleted.status_code == 403
    assert SECRET in own.text


async def test_the_list_does_not_tell_of_it() -> None:
    async with open_with_alices(COMPLETIONS, COMPLETION, HALF) as (service, _):
        listed = await service.http.get("/v1/generations", headers=BOB)

    assert listed.json()["data"] == []


async def test_who_brings_two_keys_is_neither() -> None:
    async with open_with_alices(COMPLETIONS, COMPLETION, HALF) as (service, alices):
        both = BOB | {"x-api-key": "tp-alice"}
        asked = await service.http.get(f"/v1/generations/{alices}", headers=both)

    assert_is_none(asked, 401)


async def test_without_tenants_other_credentials_are_another_tenant() -> None:
    async with open_attacked() as service:
        service.engine.answer = HALF
        async with service.ask(headers=ALICE) as client:
            alices = (await client.response_head()).headers["x-generation-id"]
            asked = [
                await service.http.get(f"/v1/generations/{alices}", headers=headers)
                for headers in ({}, BOB, {"x-api-key": "tp-alice"}, {"authorization": "tp-alice"})
            ]

    for each in asked:
        assert_is_none(each)
