"""Two proxies on one broker, as their metrics, their health and their logs tell of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.servers import Server, run_server
from tests.support.rawhttp import RawClient
from tests.web.service import (
    FAST,
    HALF_OF_EIGHT_THEN_SILENCE,
    Service,
    open_service,
    open_simulated,
    read_events,
    wait_until,
)
from trioproxy.simulator import open_engine
from trioproxy.telemetry import GenerationLog, Telemetry

SHARED = {"x-generation-key": "k"}
STALLED = HALF_OF_EIGHT_THEN_SILENCE | SHARED
SLOW = {"x-sim-rate": "50", "x-sim-tokens": "20"} | SHARED

Samples = dict[tuple[str, ...], float]


async def samples_of(service: Service) -> Samples:
    """By the rest of their names, and the values of their labels in the order of those."""
    text = (await service.http.get("/metrics")).text
    return {
        (sample.name.removeprefix("trioproxy_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@asynccontextmanager
async def two_proxies(url: str, **settings: Any) -> AsyncGenerator[tuple[Service, Service]]:
    async with (
        open_engine(settings=FAST) as engine,
        open_service(engine.url, cluster=url, **settings) as one,
        open_service(engine.url, cluster=url, **settings) as two,
    ):
        for service in (one, two):
            await wait_linked(service, "up")
        yield one, two


@asynccontextmanager
async def both_reading(
    one: Service, two: Service, headers: dict[str, str]
) -> AsyncGenerator[tuple[RawClient, RawClient]]:
    """A client of each, which read what the first one's makes."""
    async with one.ask(headers=headers) as first:
        await first.response_head()
        async with two.ask(headers=headers) as second:
            await second.response_head()
            yield first, second


async def only_one_of(service: Service) -> dict[str, Any]:
    """The generation that is there, as its list has it."""
    (found,) = (await service.http.get("/v1/generations")).json()["data"]
    return found


async def wait_linked(service: Service, link: str) -> None:
    async def is_so() -> bool:
        return (await service.http.get("/healthz")).json()["cluster"] == link

    await wait_until(is_so, within=20)


async def test_a_call_that_two_nodes_read_is_one_generation(server: Server) -> None:
    async with (
        two_proxies(server.url) as (one, two),
        both_reading(one, two, STALLED),
    ):

        async def is_published() -> bool:
            return (await samples_of(one))["cluster_published_entries_total",] > 0

        await wait_until(is_published)
        of_one, of_two = await samples_of(one), await samples_of(two)
        descriptions = [await only_one_of(service) for service in (one, two)]
        async with one.request("DELETE", f"/v1/generations/{descriptions[0]['id']}"):
            ended = ("cluster_replicas_ended_total", "cancelled", "stopped")

            async def is_told() -> bool:
                return (await samples_of(two)).get(ended) == 1

            await wait_until(is_told)
        after_one, after_two = await samples_of(one), await samples_of(two)

    names = ("cluster_leases", "cluster_replicas", "generations_running")
    assert [of_one[name,] for name in names] == [1, 0, 1]
    assert [of_two[name,] for name in names] == [0, 1, 0]
    assert of_one["cluster_up", "0"] == of_two["cluster_up", "0"] == 1
    assert of_one["cluster_elections_total", "owner"] == 1
    assert of_two["cluster_elections_total", "joined"] == 1
    assert of_one["cluster_published_bytes_total",] > 100
    assert of_one["cluster_links_total",] == of_two["cluster_links_total",] == 1
    for samples in (of_one, of_two):  # who publishes and what is copied are not counted as readers
        assert (samples["subscribers",], samples["joins_total", "first"]) == (1, 1)
        assert ("joins_total", "late") not in samples
    assert [description["subscribers"] for description in descriptions] == [1, 1]
    assert after_one["generations_total", "cancelled", "stopped"] == 1
    assert not any(name == "generations_total" for name, *_ in after_two)
    assert not any("gen_ai" in name for name, *_ in after_two)


async def test_how_late_others_are_told_is_measured_for_what_comes_live(server: Server) -> None:
    async with (
        two_proxies(server.url) as (one, two),
        both_reading(one, two, SLOW) as (first, second),
    ):
        await read_events(second)
        await read_events(first)
        samples = await samples_of(one)

    delay = "cluster_publish_delay_seconds"
    assert 5 < samples[f"{delay}_count",] <= samples["cluster_published_entries_total",]
    assert 0 < samples[f"{delay}_sum",] / samples[f"{delay}_count",] < 5


async def test_without_a_cluster_nothing_is_told_of_one() -> None:
    async with open_simulated() as service:
        text = (await service.http.get("/metrics")).text
        ready = await service.http.get("/readyz")

    assert "cluster" not in text
    assert ready.json() == {"status": "ready"}


@pytest.mark.parametrize(("down", "status"), [("local", 200), ("refuse", 503)])
async def test_a_broker_that_is_gone_is_told(down: str, status: int) -> None:
    with run_server("valkey") as server:
        async with open_simulated(cluster=server.url, cluster_down=down) as service:
            await wait_linked(service, "up")
            assert (await service.http.get("/readyz")).json() == {
                "status": "ready",
                "cluster": "up",
            }
            server.kill()
            await wait_linked(service, "down")

            ready = await service.http.get("/readyz")
            called = await service.http.post(
                "/v1/completions", json={"prompt": "a", "max_tokens": 2}, headers=SHARED
            )
            samples = await samples_of(service)

    told = {
        "local": {"status": "ready", "cluster": "down"},
        "refuse": {"status": "unready", "reason": "cluster"},
    }
    assert (ready.status_code, ready.json()) == (status, told[down])
    assert called.status_code == status
    link = {name: samples[f"cluster_{name}", "0"] for name in ("up", "down", "up_seconds")}
    assert link == {"up": 0, "down": 1, "up_seconds": 0}
    result = "alone" if down == "local" else "refused"
    assert samples["cluster_elections_total", result] == 1
    assert samples["cluster_failed_operations_total", "down", "ping"] > 0


async def test_the_log_says_which_lines_are_of_replicas(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioproxy.serving.proxy.Telemetry", lambda: Telemetry([GenerationLog()]))
    caplog.set_level(logging.INFO, "trioproxy.requests")
    async with two_proxies(server.url) as (one, two):
        async with both_reading(one, two, STALLED):
            pass
        with trio.fail_after(20):
            await one.proxy.hub.wait_idle()
            await two.proxy.hub.wait_idle()

    ended = [
        record.getMessage()
        for record in caplog.records
        if record.getMessage() in ("generation", "replica")
    ]
    assert sorted(ended) == ["generation", "replica"]
