"""What the proxy says of itself is so: the OpenAPI document against the routes, and against what
they answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.commands import open_proxy, open_simulator
from tests.support.app import make_app
from tests.web.service import NOBODY_THERE, open_simulated
from trioproxy import __version__
from trioproxy.config import Gateway, Settings, TenantEntry
from trioproxy.fanout import open_hub
from trioproxy.gateway import hash_key
from trioproxy.upstream import open_roster
from trioproxy.wire import ROUTES

IN_NO_DOCUMENT = {
    ("/v1/ws", "GET"),  # WebSockets, which OpenAPI cannot describe
    ("/v1/generations/{generation_id}/ws", "GET"),
    ("/v1/models", "GET"),  # the engine's, or of the same form
    ("/v1/models/{model}", "GET"),
    *(
        ("/{path}", method)  # forwarded
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    ),
}
"""The routes that no document has."""

TRIED_OPERATIONS = 21
"""All, but for the one by which the document itself is had."""

SCHEMATHESIS = """
continue-on-failure = true

[phases.fuzzing.generation]
max-examples = 20

[phases.stateful.generation]
max-examples = 20

[checks]
# A generation that was stopped is there for as long as any that has ended.
use_after_free.enabled = false

[[operations]]
# What the engine makes of a call is the engine's affair.
include-tag = "API"
checks.positive_data_acceptance.enabled = false

[[operations]]
# It does not end.
include-path = "/v1/generations/events"
enabled = false

[[operations]]
# With another method they are forwarded.
include-path-regex = "/v1/responses/"
checks.allow_header_conformance.enabled = false
"""
"""What is tried, and which of its checks would be wrong here."""


async def get_document() -> dict[str, Any]:
    async with open_simulated() as service:
        answer = await service.http.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def operations_of(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations.keys() - {"parameters"}
    }


async def test_the_document_is_of_this_version() -> None:
    document = await get_document()

    assert document["openapi"].startswith("3.1.")
    assert (document["info"]["title"], document["info"]["version"]) == ("trioproxy", __version__)


async def test_every_route_is_in_the_document_and_everything_in_it_is_a_route() -> None:
    settings = Settings(debug=True)
    async with open_hub() as hub, open_roster(settings, upstream_url=NOBODY_THERE) as roster:
        app = make_app(settings, hub, roster)
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    document = await get_document()

    assert routes - IN_NO_DOCUMENT == operations_of(document)
    assert routes >= IN_NO_DOCUMENT


async def test_the_document_knows_every_api_by_its_dialect() -> None:
    document = await get_document()

    described = {
        path: operations["post"]["operationId"]
        for path, operations in document["paths"].items()
        if "API" in operations.get("post", {}).get("tags", [])
    }
    assert {path: dialect.name for path, dialect in ROUTES.items()} == described
    creation = document["components"]["schemas"]["Creation"]
    assert list(ROUTES) == creation["properties"]["path"]["enum"]


async def test_the_document_tells_what_needs_a_key() -> None:
    guarded = Gateway(tenants=(TenantEntry(name="a", keys=(hash_key(b"tp-a"),)),))
    document = await get_document()
    wants_key = {
        (path, method): document["paths"][path][method.lower()].get("security") != []
        for path, method in operations_of(document)
    }
    async with open_simulated(gateway=guarded) as service:
        refused = {
            (path, method): (await service.http.request(method, path)).status_code == 401
            for path, method in wants_key
        }

    assert refused == wants_key
    assert {operation for operation, wants in wants_key.items() if not wants} == {
        ("/healthz", "GET"),
        ("/readyz", "GET"),
        ("/openapi.json", "GET"),
    }
    for path, method in (operation for operation, wants in wants_key.items() if wants):
        responses = document["paths"][path][method.lower()]["responses"]
        assert {"401", "default"} & responses.keys(), f"{method} {path}"


def test_every_route_answers_as_the_document_says_whatever_it_is_asked(tmp_path: Path) -> None:
    # In a process of its own, so that neither's patience with warnings is the other's.
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    with (
        open_simulator("--rate", "0", "--ttft", "0", "--tokens", "8") as simulator,
        open_proxy(simulator.url) as proxy,
    ):
        run = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                f"{proxy.url}/openapi.json",
                "--generation-deterministic",
            ],
            cwd=tmp_path,
            env=os.environ | {"NO_PROXY": "*", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )

    assert run.returncode == 0, run.stdout
    assert f"Tested: {TRIED_OPERATIONS}" in run.stdout
    tried = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert tried is not None, run.stdout
    assert tried[1] == tried[2]
    assert int(tried[1]) > 50 * TRIED_OPERATIONS
