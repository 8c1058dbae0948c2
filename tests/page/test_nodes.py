"""The page of a node of a cluster: what this node runs, or what all do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.clients.browser import Browser
from tests.cluster.pair import make_deaf, node_of, wait_acquainted
from tests.cluster.servers import run_server
from tests.page.test_views import CREATION
from tests.page.visiting import Visit, open_paced, violations_of, visit
from tests.web.service import SimulatedService, open_service


@asynccontextmanager
async def open_neighbours() -> AsyncGenerator[tuple[SimulatedService, SimulatedService]]:
    """Two nodes that know each other, with one engine."""
    with run_server("valkey") as server:
        async with (
            open_paced(cluster=server.url) as one,
            open_service(one.engine.url, cluster=server.url) as two,
        ):
            await wait_acquainted(one, two)
            yield one, SimulatedService(two.url, two.proxy, two.http, one.engine)


async def test_live_shows_this_node_or_all_and_stops_what_another_runs(browser: Browser) -> None:
    def scene(visit: Visit) -> None:
        visit.show("live")
        row = visit.page.get_by_role("row", name="gen_")
        row.first.wait_for()
        assert row.count() == 1
        assert "node" not in row.inner_text()
        visit.press("All nodes")
        elsewhere = row.filter(has_text=f"node {node_of(other)[:8]}")
        elsewhere.get_by_text("running").wait_for()
        assert row.filter(has_text=f"node {node_of(here)[:8]}").count() == 1
        visit.page.get_by_role("button", name="All nodes", pressed=True).wait_for()
        elsewhere.get_by_role("button", name="Stop").click()
        elsewhere.get_by_text("cancelled: stopped").wait_for()
        trio.from_thread.run(here.wait_aborted, 1)
        assert row.count() == 2
        visit.press("This node")
        visit.wait(lambda: "node" not in visit.page.locator("tbody").inner_text())

    async with open_neighbours() as (here, other):
        await other.create(CREATION)
        await here.create(CREATION)
        await visit(browser, here.url, scene)


async def test_generation_of_another_node_is_shown_with_its_timing(browser: Browser) -> None:
    def scene(visit: Visit) -> None:
        visit.show(f"generation/{created['id']}")
        visit.page.get_by_text(f"node {node_of(other)[:8]}").wait_for()
        visit.wait(
            lambda: (visit.page.locator("path.events").get_attribute("d") or "").count("V") > 5
        )

    async with open_neighbours() as (here, other):
        created = await other.create(CREATION)
        await visit(browser, here.url, scene)


async def test_who_did_not_answer_is_named(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scene(visit: Visit) -> None:
        visit.show("live")
        visit.press("All nodes")
        visit.page.get_by_text(f"1 node did not answer: {node_of(other)[:8]}").wait_for()
        assert violations_of(visit) == []

    async with open_neighbours() as (here, other):
        make_deaf(other, monkeypatch)
        await visit(browser, here.url, scene)


async def test_without_a_cluster_there_is_nothing_to_choose(browser: Browser) -> None:
    def scene(visit: Visit) -> None:
        visit.show("live")
        visit.page.get_by_text("There is no generation").wait_for()
        assert not visit.page.get_by_role("button", name="All nodes").is_visible()

    async with open_paced() as service:
        await visit(browser, service.url, scene)
