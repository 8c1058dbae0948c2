"""What the proxy refuses: by which status, in which words, and that the next call is answered."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.rawhttp import open_client
from tests.web.service import (
    CHAT,
    COMPLETION,
    COMPLETIONS,
    SimulatedService,
    assert_answers,
    error_of,
    open_simulated,
)

VALID = json.dumps(COMPLETION).encode()
GENERATION = "/v1/generations/gen_x"


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"no json", None),
        (b'{"prompt": "a"', None),
        (b'{"prompt": "a"} x', None),
        (b"[]", None),
        (b'"text"', None),
        (b"null", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"a":' * 100_000, None),
        (b'{"stream": "yes"}', "stream"),
        (b'{"stream": 1}', "stream"),
        (b'{"stream": []}', "stream"),
        (b'{"model": 1}', "model"),
    ],
)
async def test_a_body_that_makes_no_sense_is_a_bad_request(
    path: str, body: bytes, param: str | None
) -> None:
    async with open_simulated() as service:
        refused = await service.http.post(path, content=body)
        error = error_of(refused)

        assert service.engine.stats.calls == 0
        await assert_answers(service)
    assert (400, "invalid_request_error", "bad_request", param) == (
        refused.status_code,
        error["type"],
        error["code"],
        error["param"],
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-fanout", "odd"),
        ("x-fanout", "Replay"),
        ("x-fanout", ""),
        ("x-linger", "soon"),
        ("x-linger", ""),
        ("x-linger", "-1"),
        ("x-linger", "nan"),
        ("x-linger", "inf"),
        ("x-linger", "3601"),
        ("x-linger", "1e300"),
        ("last-event-id", "odd"),
    ],
)
async def test_a_header_that_makes_no_sense_is_a_bad_request(name: str, value: str) -> None:
    async with open_simulated() as service:
        refused = await service.http.post(COMPLETIONS, content=VALID, headers={name: value})
        error = error_of(refused)

        assert service.engine.stats.calls == 0
        await assert_answers(service)
    assert (
        refused.status_code,
        error["type"],
        error["code"],
    ) == (400, "invalid_request_error", "bad_request")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", COMPLETIONS, {"POST", "OPTIONS"}),
        ("HEAD", COMPLETIONS, {"POST", "OPTIONS"}),
        ("PUT", CHAT, {"POST", "OPTIONS"}),
        ("DELETE", CHAT, {"POST", "OPTIONS"}),
        ("PUT", "/v1/generations", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", "/v1/generations", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", GENERATION, {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("PATCH", GENERATION, {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("POST", f"{GENERATION}/events", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", f"{GENERATION}/events", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/debug/census", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_a_method_that_a_route_does_not_take_is_refused_with_those_it_takes(
    method: str, path: str, allowed: set[str]
) -> None:
    async with open_simulated() as service:
        refused = await service.http.request(method, path, content=VALID)

        await assert_answers(service)
    assert refused.status_code == 405
    assert allowed == set(refused.headers["allow"].split(", "))
    if method != "HEAD":
        error = error_of(refused)
        assert (error["type"], error["code"]) == ("invalid_request_error", "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(COMPLETIONS, {"POST", "OPTIONS"}), ("/v1/generations", {"GET", "HEAD", "POST", "OPTIONS"})],
)
async def test_options_of_a_route_of_the_proxy_names_its_methods(
    path: str, allowed: set[str]
) -> None:
    async with open_simulated() as service:
        answer = await service.http.options(path)

    assert (200, allowed) == (answer.status_code, set(answer.headers["allow"].split(", ")))


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v1",
        "/v1/",
        "/v1//chat/completions",
        "/v2/completions",
        f"{GENERATION}/odd",
        "/healthz/odd",
    ],
)
async def test_a_path_that_leads_nowhere_is_not_found(path: str, method: str) -> None:
    async with open_simulated() as service:
        refused = await service.http.request(method, path)

        await assert_answers(service)
    error = error_of(refused)
    assert (
        refused.status_code,
        error["type"],
        error["code"],
    ) == (404, "invalid_request_error", "not_found")


async def test_a_refused_request_leaves_its_connection_usable() -> None:
    async with open_simulated() as service, open_client(service.url) as client:
        for body, status in [(b"no json", 400), (VALID, 200), (b"[]", 400), (VALID, 200)]:
            await client.request("POST", COMPLETIONS, body=body)
            assert status == (await client.response_head()).status
            await client.body()


async def test_a_hundred_bad_requests_at_once_leave_nothing_behind() -> None:
    async def ask_badly(service: SimulatedService) -> None:
        async with service.ask(b"no json") as client:
            assert (await client.response_head()).status == 400

    async with open_simulated() as service:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask_badly, service)
        await service.wait_released()

        await assert_answers(service)
