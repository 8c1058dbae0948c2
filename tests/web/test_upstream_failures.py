"""An upstream that fails before its first byte: a status, the same for everyone who waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    NOBODY_THERE,
    ScriptedService,
    lasting_headers_of,
    open_scripted,
    open_service,
    open_simulated,
    refusal_of,
)
from trioproxy.testing.upstream import UpstreamCall, sse

VALID = json.dumps(COMPLETION).encode()
KEY = {"x-generation-key": "k"}


@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_cannot_be_reached_is_a_502(stream: bool) -> None:
    async with open_service(NOBODY_THERE) as service:
        response = await service.http.post(COMPLETIONS, json=COMPLETION | {"stream": stream})
        generation = await service.describe(response.headers["x-generation-id"])

    error = response.json()["error"]
    assert (
        response.status_code,
        error["type"],
        error["code"],
    ) == (502, "upstream_error", "upstream_unreachable")
    assert generation["outcome"] == {"kind": "failed", "reason": "unreachable"}
    assert generation["events"] == 0


async def test_a_forwarded_call_to_an_upstream_that_cannot_be_reached_is_a_502() -> None:
    async with open_service(NOBODY_THERE) as service:
        response = await service.http.get("/v1/models")

    assert refusal_of(response) == (502, "upstream_unreachable")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429, 500, 503, 529])
async def test_a_refusal_of_the_engine_is_passed_on(status: int, stream: bool) -> None:
    headers = {"x-sim-status": str(status), "x-sim-retry-after": "7"}
    async with open_simulated() as service:
        response = await service.http.post(
            COMPLETIONS, json=COMPLETION | {"stream": stream}, headers=headers
        )
        outcome = await service.outcome_of(response.headers["x-generation-id"])

    assert (status, "7", "application/json") == (
        response.status_code,
        response.headers["retry-after"],
        response.headers["content-type"],
    )
    assert response.json()["error"]["message"] == "a failure that the request asked for"
    assert outcome == {"kind": "failed", "reason": "refused"}


async def test_a_refusal_is_passed_on_with_its_headers_and_its_very_body() -> None:
    body = b'{"odd": \xff}'
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.respond(
            418,
            ("content-type", "application/tea"),
            ("x-should-retry", "true"),
            ("x-ratelimit-reset-requests", "7s"),
            ("set-cookie", "a=b"),
            ("connection", "close"),
            body=body,
        )
        head = await client.response_head()
        received = await client.body()

    assert (418, body) == (head.status, received)
    assert lasting_headers_of(head) == {
        "content-type": "application/tea",
        "content-length": str(len(body)),
        "x-should-retry": "true",
        "x-ratelimit-reset-requests": "7s",
        "x-cache": "miss",
    }


@pytest.mark.parametrize("location", ["/elsewhere", "http://elsewhere.test/"])
async def test_a_redirect_is_passed_on_and_not_followed(location: str) -> None:
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.respond(307, ("location", location))
        head = await client.response_head()

    assert (307, location, 1) == (head.status, head.headers["location"], service.upstream.calls)


async def test_a_refusal_reaches_everyone_who_waits_for_the_same_call() -> None:
    async with (
        open_scripted() as service,
        service.ask(headers=KEY) as one,
        service.ask(headers=KEY) as other,
    ):
        call = await service.upstream.next_call()
        await service.wait_subscribers(2)
        await call.respond(429, ("retry-after", "7"), body=b"later")
        heads = [await client.response_head() for client in (one, other)]
        bodies = [await client.body() for client in (one, other)]

    assert [(head.status, head.headers["retry-after"]) for head in heads] == [(429, "7")] * 2
    assert bodies == [b"later"] * 2
    assert {"miss", "join"} == {head.headers["x-cache"] for head in heads}


async def test_the_next_call_after_a_refusal_starts_afresh() -> None:
    async with open_simulated(coalesce="identical") as service:
        refused = await service.http.post(
            COMPLETIONS, content=VALID, headers={"x-sim-fail": "before"}
        )
        answered = await service.http.post(COMPLETIONS, content=VALID)

    assert (refused.status_code, answered.status_code) == (500, 200)
    assert answered.headers["x-cache"] == "miss"


async def test_who_comes_back_to_a_refused_call_gets_its_refusal() -> None:
    async with open_simulated() as service:
        refused = await service.http.post(
            COMPLETIONS, content=VALID, headers={"x-sim-status": "400"}
        )
        generation_id = refused.headers["x-generation-id"]
        again = await service.http.post(
            COMPLETIONS, content=VALID, headers={"last-event-id": f"{generation_id}:0"}
        )

    assert (400, refused.content) == (again.status_code, again.content)
    assert service.engine.stats.calls == 1


async def silent(call: UpstreamCall) -> None:
    """Take the call and say nothing."""


async def gone(call: UpstreamCall) -> None:
    """Take the call and close its connection."""
    call.cut()


async def reset_in_a_refusal(call: UpstreamCall) -> None:
    """Begin to refuse, and close the connection in the middle of saying why."""
    await call.start(500, ("content-length", "100"))
    await call.write(b"because")
    call.cut()


async def without_http(call: UpstreamCall) -> None:
    """Answer in some other protocol."""
    await call.write_raw(b"220 smtp.test ESMTP\r\n\r\n")


async def in_json(call: UpstreamCall) -> None:
    """Answer a streaming call with a whole body."""
    await call.respond(200, ("content-type", "application/json"), body=b"{}")


async def untyped(call: UpstreamCall) -> None:
    """Answer with a stream that does not say what it is."""
    await call.respond(200, body=sse(b"[DONE]"))


@pytest.mark.parametrize(
    ("answer", "status", "code", "reason"),
    [
        (silent, 504, "upstream_timeout", "timeout"),
        (gone, 502, "upstream_broken", "broken"),
        (without_http, 502, "upstream_broken", "broken"),
        (in_json, 502, "upstream_not_streaming", "not_a_stream"),
        (untyped, 502, "upstream_not_streaming", "not_a_stream"),
    ],
)
async def test_an_upstream_that_gives_no_stream_is_told_by_a_status(
    answer: Any, status: int, code: str, reason: str
) -> None:
    async with open_scripted(first_token_timeout=0.2) as service, service.ask() as client:
        await answer(await service.upstream.next_call())
        head = await client.response_head()
        error = json.loads(await client.body())["error"]

        assert (status, "upstream_error", code) == (head.status, error["type"], error["code"])
        assert error["message"]
        outcome = await service.outcome_of(head.headers["x-generation-id"])
        assert {"kind": "failed", "reason": reason} == outcome
        await assert_streams(service)


async def test_a_refusal_that_breaks_off_keeps_its_status() -> None:
    async with open_scripted() as service, service.ask() as client:
        await reset_in_a_refusal(await service.upstream.next_call())
        head = await client.response_head()

        assert (head.status, await client.body()) == (500, b"because")
        outcome = await service.outcome_of(head.headers["x-generation-id"])
        assert outcome == {"kind": "failed", "reason": "refused"}


async def assert_streams(service: ScriptedService) -> None:
    """The service answers the next call."""
    async with service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sse(b"1", b"[DONE]"))
        assert (await client.response_head()).status == 200
        assert b"\ndata: [DONE]\n" in await client.body()


async def test_a_call_that_nobody_takes_is_given_up_after_its_time_to_connect() -> None:
    async with open_service("http://192.0.2.1:9", connect_timeout=0.1) as service:
        response = await service.http.post(COMPLETIONS, content=VALID)

    assert refusal_of(response) == (502, "upstream_unreachable")
