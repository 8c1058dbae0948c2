"""Every other path of the API: passed through as it is, in both directions, and never shared."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.rawhttp import RawClient, open_client
from tests.web.service import ScriptedService, next_event, open_scripted, open_simulated, refusal_of
from trioproxy.testing.upstream import UpstreamCall, sse

Leave = Callable[[RawClient], None]
JSON = ("content-type", "application/json")
PATH = "/v1/embeddings"


async def test_the_models_are_the_engines() -> None:
    async with open_simulated() as service, httpx.AsyncClient(verify=False) as direct:
        expected = await direct.get(f"{service.engine.url}/v1/models")
        answer = await service.http.get("/v1/models")

    assert (200, expected.content) == (answer.status_code, answer.content)
    assert expected.headers["content-type"] == answer.headers["content-type"]
    assert expected.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/models/a", b""),
        ("/v1/files?purpose=a%20b&after", b'{ "a" :1}'),
        ("/v1/files/a%2Fb/c%3Fd/%C3%BC", b"\x00\xff" * 1000),
        ("/v1/completions/x", b""),
        ("/v1/generationsx", b""),
    ],
)
async def test_a_request_reaches_the_upstream_as_it_came(
    target: str, body: bytes, method: str
) -> None:
    async with open_scripted() as service, service.request(method, target, body=body) as client:
        call = await service.upstream.next_call()
        await call.respond(200)
        assert (await client.response_head()).status == 200

    assert (method, target.encode(), body) == (call.method, call.target, call.body)


async def test_headers_travel_by_the_rules_of_the_api_routes() -> None:
    headers = {
        "authorization": "Bearer alice",
        "x-custom": "1",
        "cookie": "a=b",
        "x-fanout": "replay",
        "connection": "x-hop",
        "x-hop": "1",
        "accept-encoding": "gzip",
    }
    async with open_scripted() as service, service.get(PATH, headers=headers):
        call = await service.upstream.next_call()

    received = dict(call.headers)
    assert (received[b"authorization"], received[b"x-custom"]) == (b"Bearer alice", b"1")
    assert received[b"accept-encoding"] == b"identity"
    assert received.keys() & {b"cookie", b"x-fanout", b"x-hop"} == set()


async def test_the_upstream_key_takes_the_place_of_the_clients() -> None:
    async with (
        open_scripted(upstream_key="of the operator") as service,
        service.get(PATH, headers={"authorization": "Bearer alice"}),
    ):
        call = await service.upstream.next_call()

    assert dict(call.headers)[b"authorization"] == b"Bearer of the operator"


@pytest.mark.parametrize("status", [200, 201, 302, 400, 404, 429, 500, 503])
async def test_an_answer_reaches_the_client_as_it_came(status: int) -> None:
    async with open_scripted() as service, service.get(PATH) as client:
        call = await service.upstream.next_call()
        await call.respond(
            status,
            ("content-type", "application/odd; a=b"),
            ("location", "/v1/elsewhere"),
            ("vary", "a"),
            ("vary", "b"),
            ("set-cookie", "a=b"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            body=b"odd",
        )
        head = await client.response_head()
        body = await client.body()

    headers = dict(head.headers)
    assert headers.pop("date")
    assert (status, b"odd") == (head.status, body)
    assert headers == {
        "content-type": "application/odd; a=b",
        "location": "/v1/elsewhere",
        "vary": "a, b, Origin",
        "content-length": "3",
    }


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_none(status: int) -> None:
    async with open_scripted() as service, service.get(PATH) as client:
        call = await service.upstream.next_call()
        await call.start(status, ("etag", '"a"'))
        await call.finish()
        head = await client.response_head()

        assert (status, '"a"', b"") == (head.status, head.headers["etag"], await client.body())
        assert client.ended_properly


async def test_the_answer_to_a_head_request_keeps_its_length_and_has_no_body() -> None:
    async with open_scripted() as service, service.request("HEAD", PATH) as client:
        call = await service.upstream.next_call()
        await call.start(200, JSON, ("content-length", "1000"))
        await call.finish()
        head = await client.response_head()

        assert call.method == "HEAD"
        assert (head.status, head.headers["content-length"]) == (200, "1000")
        assert await client.body() == b""


async def test_identical_requests_are_never_shared() -> None:
    headers = {"x-fanout": "replay", "x-generation-key": "k"}
    async with (
        open_scripted(coalesce="identical") as service,
        service.get(PATH, headers=headers),
        service.get(PATH, headers=headers),
    ):
        for _ in range(2):
            await service.upstream.next_call()

        assert await service.list_generations() == []


async def test_an_answer_is_passed_on_as_it_comes() -> None:
    async with (
        open_scripted() as service,
        service.request("POST", "/v1/audio/speech", body=b"{}") as client,
    ):
        call = await service.upstream.next_call()
        await call.start()
        head = await client.response_head()
        for token in (b"1", b"2"):
            await call.write(sse(token))
            assert token == (await next_event(client)).data
        await call.finish(b": bye\n\n")

        assert head.headers["content-type"] == "text/event-stream"
        assert await client.body() == b": bye\n\n"


BODY_BYTES = 48 * 2**20
MOST_IN_THE_BUFFERS = 32 * 2**20
"""What the sockets of two connections can hold at most, generously."""


async def test_an_answer_is_read_at_the_pace_of_the_client() -> None:
    piece = b"x" * 2**18
    written = 0

    async def write_body(call: UpstreamCall) -> None:
        nonlocal written
        while written < BODY_BYTES:
            await call.write(piece)
            written += len(piece)
        await call.finish()

    async with (
        open_scripted() as service,
        open_client(service.url, rcvbuf=65536) as client,
        trio.open_nursery() as nursery,
    ):
        await client.request("GET", "/v1/files/big")
        call = await service.upstream.next_call()
        await call.start(200, ("content-length", str(BODY_BYTES)))
        nursery.start_soon(write_body, call)
        await client.response_head()
        await wait_all_tasks_blocked(cushion=0.1)

        assert 0 < written < MOST_IN_THE_BUFFERS
        assert len(await client.body(within=30)) == BODY_BYTES
        assert client.ended_properly


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset, RawClient.half_close])
@pytest.mark.parametrize("begun", [False, True])
async def test_the_upstream_call_ends_when_the_client_leaves(begun: bool, leave: Leave) -> None:
    async with open_scripted() as service, service.get(PATH) as client:
        call = await service.upstream.next_call()
        if begun:
            await call.start(200, JSON)
            await call.write(b"half")
            await client.response_head()

        leave(client)

        await call.wait_departure()
        await service.wait_released()


@pytest.mark.parametrize("framing", [("content-length", "100"), ("transfer-encoding", "chunked")])
async def test_an_answer_that_breaks_off_is_cut_for_the_client_too(
    framing: tuple[str, str],
) -> None:
    async with open_scripted() as service:
        async with service.get(PATH) as client:
            call = await service.upstream.next_call()
            await call.start(200, JSON, framing)
            await call.write(b"half")
            assert (await client.response_head()).status == 200
            call.cut()

            assert await client.body() == b"half"
            assert not client.ended_properly
        await assert_forwards(service)


async def test_an_upstream_that_does_not_answer_in_time_is_a_504() -> None:
    async with open_scripted(first_token_timeout=0.1) as service:
        response = await service.http.get(PATH)
        call = await service.upstream.next_call()
        await call.wait_departure()

    assert refusal_of(response) == (504, "upstream_timeout")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../admin",
        "/v1/..",
        "/v1/a/../../admin",
        "/v1/./a",
        "/v1/a/.",
        "/v1/%2e%2e/admin",
        "/v1/.%2E/admin",
        "/v1/a%2F..%2F..%2Fadmin",
        "/v1/a//b",
        "/v1/models#top",
        "/v1/completions?a#b",
        "//v1/models",
        "http://proxy//v1/models",
    ],
)
async def test_a_target_that_could_mean_something_else_upstream_is_refused(target: str) -> None:
    async with open_scripted() as service:
        async with service.get(target) as client:
            head = await client.response_head()

        assert (head.status, service.upstream.calls) == (400, 0)
        await assert_forwards(service)


async def test_a_target_in_absolute_form_means_its_path() -> None:
    async with open_scripted() as service, service.get("http://elsewhere/v1/models?a=b") as client:
        call = await service.upstream.next_call()
        await call.respond(200, JSON, body=b"{}")

        assert (await client.response_head()).status == 200
        assert call.target == b"/v1/models?a=b"


async def test_a_websocket_handshake_is_refused() -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with open_scripted() as service:
        async with service.get("/v1/models", headers=upgrade) as client:
            assert (await client.response_head()).status in range(400, 500)
        await assert_forwards(service)


async def assert_forwards(service: ScriptedService) -> None:
    """The service forwards the next call."""
    async with service.get(PATH) as client:
        call = await service.upstream.next_call()
        await call.respond(200, JSON, body=b"{}")
        assert (await client.response_head()).status == 200
        assert await client.body() == b"{}"
