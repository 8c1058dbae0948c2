"""Where a client is: what is believed of it, and whom."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawhttp import open_client
from tests.web.service import COMPLETION, COMPLETIONS, open_simulated
from trioproxy.web.whereabouts import Whereabouts

PEER, FRONT, CLIENT = "203.0.113.9", "10.0.0.1", "198.51.100.7"


def address(trusted: str, peer: str | None, *forwarded: str) -> str | None:
    headers = [(b"x-forwarded-for", each.encode("latin-1")) for each in forwarded]
    client = None if peer is None else (peer, 4711)
    return Whereabouts(trusted).address_of({"client": client, "headers": headers})


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        ("", PEER, [], PEER),
        ("", PEER, [CLIENT], PEER),
        ("10.0.0.0/8", PEER, [CLIENT], PEER),
        ("10.0.0.0/8", FRONT, [CLIENT], CLIENT),
        ("10.0.0.1", FRONT, [CLIENT], CLIENT),
        ("10.0.0.0/8", FRONT, [], FRONT),
        # The last who is not believed, whatever they say of others.
        ("10.0.0.0/8", FRONT, [f"1.2.3.4, {CLIENT}"], CLIENT),
        ("10.0.0.0/8", FRONT, [f"1.2.3.4, {CLIENT},10.0.0.2"], CLIENT),
        ("10.0.0.0/8", FRONT, ["1.2.3.4", CLIENT, "10.0.0.2"], CLIENT),
        # All are believed.
        ("10.0.0.0/8", FRONT, ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # Behind what is no address nothing is.
        ("10.0.0.0/8", FRONT, [f"{CLIENT}, unknown"], FRONT),
        ("10.0.0.0/8", FRONT, [f"{CLIENT}, "], FRONT),
        ("10.0.0.0/8", FRONT, ["\xff"], FRONT),
        # As others write them.
        ("10.0.0.0/8", FRONT, [f"{CLIENT}:80"], CLIENT),
        ("10.0.0.0/8", FRONT, ["[2001:db8::1]:80"], "2001:db8::1"),
        ("10.0.0.0/8", FRONT, ["2001:DB8::1"], "2001:db8::1"),
        ("10.0.0.0/8", f"::ffff:{FRONT}", [CLIENT], CLIENT),
        ("::1", "::1", [CLIENT], CLIENT),
        # A Unix socket has no address.
        ("", None, [CLIENT], None),
        ("10.0.0.0/8", None, [CLIENT], None),
        ("unix", None, [CLIENT], CLIENT),
        ("unix", None, [], None),
        ("unix", PEER, [CLIENT], PEER),
        ("unix,10.0.0.0/8", None, [f"{CLIENT}, 10.0.0.2"], CLIENT),
    ],
)
def test_the_last_hop_that_is_not_believed_is_the_client(
    trusted: str, peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert address(trusted, peer, *forwarded) == expected


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str | None]]:
    return [
        (record.__dict__["path"], record.__dict__["client"])
        for record in caplog.records
        if record.message == "request"
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "127.0.0.1"), ({"trusted_proxies": "127.0.0.0/8"}, CLIENT)],
)
async def test_every_request_is_logged_with_it(
    settings: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="trioproxy.requests")
    async with open_simulated(**settings) as service:
        for path in ("/healthz", "/v1/models", "/nowhere"):
            await service.http.get(path, headers={"x-forwarded-for": CLIENT})

    assert logged(caplog) == [(path, expected) for path in ("/healthz", "/v1/models", "/nowhere")]


async def test_over_a_unix_socket_it_is_what_the_front_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="trioproxy.requests")
    bind = f"127.0.0.1:0,unix:{tmp_path}/proxy.sock"
    async with (
        open_simulated(bind=bind, trusted_proxies="unix") as service,
        open_client(service.proxy.binds[1]) as client,
    ):
        await client.request("GET", "/healthz", headers={"x-forwarded-for": CLIENT})
        await client.response_head()

    assert logged(caplog) == [("/healthz", CLIENT)]


async def test_the_engine_is_told_nothing_of_it() -> None:
    said = {
        "x-forwarded-for": CLIENT,
        "x-forwarded-proto": "https",
        "X-Forwarded-Host": "llm.example.com",
        "x-real-ip": CLIENT,
        "forwarded": f"for={CLIENT}",
        "x-request-id": "kept",
    }
    async with open_simulated(trusted_proxies="127.0.0.1") as service:
        await service.http.post(COMPLETIONS, json=COMPLETION, headers=said)
        [call] = service.engine.calls

    names = {name for name, _ in call.headers.items()}
    assert not {name.lower() for name in said} - {"x-request-id"} & names
    assert "x-request-id" in names
