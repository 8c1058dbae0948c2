"""Pages of other origins, in the browser of somebody who can reach the proxy: cross-site requests
that need no leave, WebSockets, and names that were made to lead here (DNS rebinding)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.attacks.standing import open_attacked
from tests.support.websocket import HANDSHAKE
from tests.web.service import COMPLETION, COMPLETIONS, CREATION
from tests.web.test_door import ALICE, GATEWAY, ROOT

FORMS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
"""What a form may send, and so a script, without asking (https://fetch.spec.whatwg.org)."""

FOREIGN = ["https://evil.example", "http://127.0.0.1:1", "http://localhost.evil.example", "null"]

REBOUND = [
    "evil.example",
    "evil.example:9010",
    "127.0.0.1.evil.example",
    "localhost.",
    "2130706433",
]
"""Names that anybody's name server can have lead to 127.0.0.1, or that no browser would ask so."""


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("kind", FORMS)
async def test_a_form_of_a_foreign_page_makes_no_call(origin: str, kind: str) -> None:
    async with open_attacked() as service:
        answers = [
            await service.http.post(
                path, json=body, headers={"origin": origin, "content-type": kind}
            )
            for path, body in [
                (COMPLETIONS, COMPLETION),
                ("/v1/responses", {"input": "a", "background": True}),
                ("/v1/generations", CREATION),
                ("/v1/embeddings", {"input": "a"}),
            ]
        ]

        assert service.engine.connections == []
    assert {answer.status_code for answer in answers} == {403}
    assert not any("access-control-allow-origin" in answer.headers for answer in answers)


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_page_opens_no_websocket(origin: str) -> None:
    async with open_attacked() as service:
        for path in ("/v1/ws", "/v1/generations/gen_0/ws"):
            answer = await service.http.get(path, headers=HANDSHAKE | {"origin": origin})
            assert answer.status_code == 403


@pytest.mark.parametrize("host", REBOUND)
async def test_a_page_whose_name_was_made_to_lead_here_learns_and_does_nothing(host: str) -> None:
    page = {"host": host, "origin": f"http://{host}"}
    async with open_attacked() as service:
        asked = await service.http.post(COMPLETIONS, json=COMPLETION, headers=page)
        looks = [
            await service.http.get(path, headers={"host": host})  # no page tells its origin there
            for path in ("/v1/generations", "/v1/models", "/metrics", "/debug/census", "/", "/nope")
        ]
        socket = await service.http.get("/v1/ws", headers=HANDSHAKE | page)

        assert service.engine.connections == []
    assert {answer.status_code for answer in (asked, *looks, socket)} == {403}
    assert json.loads(asked.text)["error"]["code"] == "forbidden"


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:9010", "LOCALHOST", "proxy.localhost:1", "127.0.0.1", "[::1]:9"],
)
async def test_the_machines_own_names_are_answered(host: str) -> None:
    async with open_attacked() as service:
        page = {"host": host, "origin": f"http://{host}"}
        assert (await service.http.get("/v1/generations", headers=page)).status_code == 200


@pytest.mark.parametrize(
    ("settings", "headers"),
    [({"gateway": GATEWAY}, ALICE), ({"insecure_open": True}, {})],
    ids=["tenants", "open to all"],
)
async def test_any_name_will_do_where_it_is_not_the_machine_that_lets_in(
    settings: dict[str, Any], headers: dict[str, str]
) -> None:
    credentials = ROOT if headers else {}
    async with open_attacked(**settings, credentials=credentials) as service:
        named = headers | {"host": "llm.example.com"}
        assert (await service.http.get("/v1/generations", headers=named)).status_code == 200
