"""Pages of other origins: asked for by the browser before and after, answered by configuration."""

from __future__ import annotations

import pytest

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    open_scripted,
    open_simulated,
    refusal_of,
)
from trioproxy.testing.upstream import sse

PAGE = "https://app.example"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,x-fanout,x-stainless-os",
}
ROUTES = [COMPLETIONS, "/v1/responses", "/v1/generations/gen_0", "/v1/models", "/api/tags", "/nope"]


@pytest.mark.parametrize("allowed", [PAGE, f"http://other.example,{PAGE}", "*"])
@pytest.mark.parametrize("path", ROUTES)
async def test_a_page_that_may_is_told_so_before_its_request(path: str, allowed: str) -> None:
    async with open_simulated(cors_origins=allowed) as service:
        answer = await service.http.request("OPTIONS", path, headers=PREFLIGHT)

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == (
        "authorization,x-fanout,x-stainless-os"
    )
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers
    assert service.engine.stats.calls == 0


@pytest.mark.parametrize("path", ROUTES)
async def test_a_page_that_may_not_is_told_nothing_of_the_kind(path: str) -> None:
    async with open_simulated(cors_origins="https://other.example") as service:
        before = await service.http.request("OPTIONS", path, headers=PREFLIGHT)
        answer = await service.http.get(path, headers={"origin": PAGE})

    assert before.status_code == 204
    assert "access-control-allow-origin" not in before.headers
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [(COMPLETIONS, 200), (f"{COMPLETIONS}?x=1", 200), ("/v1/generations", 400)],
)
async def test_answers_and_errors_can_be_read_with_their_headers(path: str, status: int) -> None:
    async with open_simulated(cors_origins=PAGE) as service:
        answer = await service.http.post(path, json=COMPLETION, headers={"origin": PAGE})

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-expose-headers"] == "*"


@pytest.mark.parametrize(("allowed", "expected"), [("", []), (PAGE, [PAGE, "*"])])
async def test_what_the_engine_says_of_origins_was_meant_for_its_own_address(
    allowed: str, expected: list[str]
) -> None:
    async with (
        open_scripted(cors_origins=allowed) as service,
        service.request("GET", "/v1/models", headers={"origin": PAGE}) as client,
    ):
        call = await service.upstream.next_call()
        await call.respond(
            200, ("access-control-allow-origin", "*"), ("access-control-max-age", "5")
        )
        head = await client.response_head()

    assert expected == [value for name, value in head.headers.items() if "control" in name]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "x"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", COMPLETIONS),
        ("POST", "/v1/generations"),
        ("DELETE", "/v1/generations/gen_0"),
        ("POST", "/v1/embeddings"),
    ],
)
async def test_what_a_page_may_not_ask_for_is_not_done(origin: str, method: str, path: str) -> None:
    """A browser sends it without asking first, if its type is that of a form."""
    headers = {"origin": origin, "content-type": "text/plain"}
    async with open_simulated() as service:
        refused = await service.http.request(
            method, path, content=b'{"prompt": "a"}', headers=headers
        )

        assert service.engine.stats.calls == 0
    assert refusal_of(refused) == (403, "forbidden")


async def test_a_page_of_the_proxys_own_may_do_all() -> None:
    async with open_simulated() as service:
        answer = await service.http.post(
            COMPLETIONS, json=COMPLETION, headers={"origin": service.url}
        )

    assert answer.status_code == 200


async def test_the_engine_is_not_told_of_the_page() -> None:
    page = {"origin": PAGE, "referer": f"{PAGE}/x", "sec-fetch-site": "cross-site"}
    async with open_scripted(cors_origins="*") as service, service.ask(headers=page):
        call = await service.upstream.next_call()

    names = {name for name, _ in call.headers}
    assert names.isdisjoint(name.encode() for name in page)


async def test_a_stream_can_be_read_by_a_page() -> None:
    async with (
        open_scripted(cors_origins=PAGE) as service,
        service.ask(headers={"origin": PAGE}) as client,
    ):
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sse(b"{}", b"[DONE]"))
        head = await client.response_head()

    assert head.headers["access-control-allow-origin"] == PAGE


async def test_options_without_a_question_of_a_browser_is_an_ordinary_request() -> None:
    async with open_simulated(cors_origins=PAGE) as service:
        own = await service.http.request("OPTIONS", "/v1/generations")
        forwarded = await service.http.request("OPTIONS", "/v1/models", headers={"origin": PAGE})

    assert (own.status_code, "GET" in own.headers["allow"]) == (200, True)
    assert forwarded.status_code == 405  # the engine's own word
