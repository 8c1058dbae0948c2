"""A user of the broker that may do what docs/cluster.md says, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cluster.brokers import share_server
from tests.cluster.servers import Server
from tests.cluster.test_counting import (
    STALLED,
    both_reading,
    only_one_of,
    samples_of,
    two_proxies,
)
from tests.web.service import Service, wait_until

ROOT = Path(__file__).parents[2]
SCRIPTS = (ROOT / "trioproxy" / "cluster" / "scripts").glob("*.lua")
ON_CONNECTIONS = {"eval", "evalsha", "ping", "xread", "hello", "client|setname"}


def rules() -> list[str]:
    """What the page has an operator type, but for the password."""
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ACL SETUSER trioproxy on >\S+ (.*)$", page, re.MULTILINE)
    return line.split()


def test_the_rights_are_those_that_the_scripts_need() -> None:
    called = {
        command.lower()
        for script in SCRIPTS
        for command in re.findall(r"redis\.call\('(\w+)'", script.read_text())
    }

    pattern, *rights = rules()

    assert pattern == "~tp:*"
    assert {right.removeprefix("+") for right in rights} == called | ON_CONNECTIONS


async def test_nodes_share_under_these_rights(server: Server) -> None:
    async with share_server(server) as shared:
        await shared.command("ACL SETUSER", "trioproxy", "on", ">secret", *rules())
        async with (
            two_proxies(
                f"redis://trioproxy:secret@127.0.0.1:{server.port}", requests_per_minute=100
            ) as (one, two),
            both_reading(one, two, STALLED),
        ):

            async def is_published() -> bool:
                return (await samples_of(one))["cluster_published_entries_total",] > 0

            await wait_until(is_published)
            found = await only_one_of(one)
            await two.http.delete(f"/v1/generations/{found['id']}")
            assert (await one.outcome_of(found["id"]))["reason"] == "stopped"
            refused = await refused_of(one) | await refused_of(two)
        await shared.command("ACL DELUSER", "trioproxy")

    assert refused == set()


async def refused_of(service: Service) -> set[tuple[str, ...]]:
    """What the broker did not let it do."""
    return {name for name in await samples_of(service) if "refused" in name}
