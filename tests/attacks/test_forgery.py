"""Server-side request forgery: targets that would have the proxy call somebody else, or the engine
outside its prefix."""

from __future__ import annotations

import re

import pytest

from tests.attacks.engine import answer, open_engine
from tests.attacks.standing import Attacked, open_attacked, statuses
from tests.web.service import COMPLETION, COMPLETIONS

PREFIX = "/tenant/a"

SNEAKY = [
    "/v1/../admin",
    "/v1/%2e%2e/admin",
    "/v1/.%2E/%2e./admin",
    "/v1/a%2f..%2f..%2fadmin",
    "/v1/..%5cadmin",
    "/v1/..\\..\\admin",
    "/v1/%5c%5c{elsewhere}/admin",
    "/v1/..;/admin",
    "/v1//{elsewhere}/admin",
    "/v1/%2f%2f{elsewhere}/admin",
    "//{elsewhere}/v1/models",
    "///{elsewhere}/v1/models",
    "/\\{elsewhere}/v1/models",
    "/v1/@{elsewhere}/",
    "/v1/http://{elsewhere}/",
    "/@{elsewhere}/v1/models",
    "@{elsewhere}/v1/models",
    ":80/v1/models",
    "http://{elsewhere}/v1/models",
    "HTTP://me:secret@{elsewhere}/v1/models",
    "https://{elsewhere}/v1/models",
    "http://{elsewhere}//v1/models",
    "http://{elsewhere}/v1/../../admin",
    "ftp://{elsewhere}/v1/models",
    "{elsewhere}",
    "*",
    "v1/models",
    "/v1/models#@{elsewhere}/",
    "/v1/models?#@{elsewhere}/",
    "/v1/models?url=http://{elsewhere}/",
    "/v1/%252e%252e/%252e%252e/admin",
    "/v1/%c0%ae%c0%ae/admin",
    "/v1/\u002e%00./admin",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", SNEAKY)
async def test_only_the_engine_is_called_and_only_below_its_prefix(
    method: str, target: str
) -> None:
    async with open_engine() as elsewhere, open_attacked(prefix=PREFIX) as service:
        address = elsewhere.url.removeprefix("http://")
        answered = await service.told(
            f"{method} {target.format(elsewhere=address)} HTTP/1.1\r\nHost: localhost\r\n"
            "Connection: close\r\nContent-Length: 2\r\n\r\n{}".encode()
        )

        assert elsewhere.connections == []
        assert_is_below_prefix(service)
    assert len(statuses(answered)) == 1


def assert_is_below_prefix(service: Attacked) -> None:
    """What the engine got was for it, and for what is there however it reads the path."""
    for request in service.engine.requests():
        path = request.target.partition(b"?")[0]
        assert path.startswith(f"{PREFIX}/v1/".encode())
        assert not re.search(rb"//|/\.\.?(?:[/;]|$)|%2e%2e|%2f|%00", path.lower())
        assert b"\\" not in path
        assert b"%5c" not in path.lower()
        assert b"#" not in request.target
        assert request.values(b"host") == [service.engine.url.removeprefix("http://").encode()]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": "{elsewhere}"},
        {"forwarded": "host={elsewhere}"},
        {"x-original-url": "http://{elsewhere}/"},
        {"x-rewrite-url": "/admin"},
        {"host": "localhost", "connection": "host, content-length"},
    ],
)
async def test_no_header_leads_elsewhere(headers: dict[str, str]) -> None:
    async with open_engine() as elsewhere, open_attacked(prefix=PREFIX) as service:
        address = elsewhere.url.removeprefix("http://")
        told = {name: value.format(elsewhere=address) for name, value in headers.items()}
        asked = await service.http.post(COMPLETIONS, json=COMPLETION, headers=told)

        assert elsewhere.connections == []
        assert len(service.engine.connections) == 1
        assert_is_below_prefix(service)
    assert asked.status_code == 200


@pytest.mark.parametrize("status", [b"301 M", b"302 F", b"303 S", b"307 T", b"308 P", b"305 U"])
@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/embeddings"])
async def test_nowhere_is_gone_where_the_engine_sends_to(status: bytes, path: str) -> None:
    async with open_engine() as elsewhere, open_attacked() as service:
        location = b"location: " + elsewhere.url.encode() + b"/v1/completions"
        service.engine.answer = answer(b"", location, b"refresh: 0;url=x", status=status)
        asked = await service.http.post(path, json=COMPLETION)

        assert elsewhere.connections == []
        assert len(service.engine.connections) == 1
    assert asked.status_code == int(status[:3])


@pytest.mark.parametrize(
    "path", ["http://{elsewhere}/v1/completions", "//{elsewhere}/v1/completions", "/v1/../admin"]
)
async def test_the_path_of_a_creation_is_one_of_the_apis(path: str) -> None:
    async with open_engine() as elsewhere, open_attacked() as service:
        address = elsewhere.url.removeprefix("http://")
        refused = await service.http.post(
            "/v1/generations", json={"path": path.format(elsewhere=address), "body": {}}
        )

        assert elsewhere.connections == service.engine.connections == []
    assert refused.status_code == 400
