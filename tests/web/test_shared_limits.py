"""Limits of tenants at two proxies that share a broker: what holds over both, and what is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.cluster.nodes import open_member
from tests.cluster.servers import Server, run_server
from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    CREATION,
    HALF_OF_EIGHT_THEN_SILENCE,
    SimulatedService,
    error_of,
    open_simulated,
    refusal_of,
    wait_until,
)
from tests.web.sockets import open_socket
from trioproxy.config import Gateway, Settings, TenantEntry
from trioproxy.gateway import Allowance, Quotas, RateLimited, Rates, hash_key
from trioproxy.testing.broker import FakeBroker
from trioproxy.web import shared_limits
from trioproxy.web.clustered import Cluster
from trioproxy.web.places import ClusterDown
from trioproxy.web.shared_limits import PATIENCE, SharedLimits

LEASE = 1.0


def entry(name: str, **own: Any) -> TenantEntry:
    return TenantEntry(name=name, keys=(hash_key(f"tp-{name}".encode()),), **own)


ALICE, BOB, CAROL = ({"authorization": f"Bearer tp-{name}"} for name in ("alice", "bob", "carol"))
FREE = {"requests_per_minute": float("inf"), "max_generations": float("inf")}
GATEWAY = Gateway(tenants=(entry("alice"), entry("bob"), entry("carol", **FREE)))
LIMIT, REMAINING, RESET = (
    f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset")
)
LASTING = ALICE | HALF_OF_EIGHT_THEN_SILENCE


@pytest.fixture(scope="module")
def valkey() -> Generator[Server]:
    with run_server("valkey") as server:
        yield server


@pytest.fixture
def broker(valkey: Server) -> Server:
    """A broker that is empty."""
    valkey.kill()
    valkey.start()
    return valkey


def cluster_of(service: SimulatedService) -> Cluster:
    places = service.proxy._holdings.places
    assert isinstance(places, Cluster)
    return places


@asynccontextmanager
async def open_node(broker: Server, **settings: Any) -> AsyncGenerator[SimulatedService]:
    """A proxy that has its link."""
    chosen: dict[str, Any] = {"gateway": GATEWAY, "cluster_lease": LEASE, **settings}
    async with open_simulated(cluster=broker.url, **chosen) as service:
        with trio.fail_after(10):
            for each in cluster_of(service).node.brokers:
                await each.wait_up()
        yield service


@asynccontextmanager
async def open_nodes(broker: Server, **settings: Any) -> AsyncGenerator[list[SimulatedService]]:
    async with open_node(broker, **settings) as one, open_node(broker, **settings) as two:
        yield [one, two]


async def ask(service: SimulatedService, headers: dict[str, str] = ALICE) -> httpx.Response:
    return await service.http.post(COMPLETIONS, json=COMPLETION, headers=headers)


@pytest.mark.parametrize(
    "rate",
    [
        {"requests_per_minute": 10},
        {"requests_per_minute": 1, "rate_limiter": "token-bucket", "burst": 10},
    ],
)
async def test_ten_are_let_in_at_both_nodes_together(
    broker: Server, rate: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow machine is not a broker that is away.
    monkeypatch.setattr(shared_limits, "PATIENCE", 10)
    answers: list[httpx.Response] = []

    async def ask_one(service: SimulatedService) -> None:
        answers.append(await ask(service))

    async with open_nodes(broker, **rate) as nodes:
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask_one, nodes[number % 2])
        calls = sum(node.engine.stats.calls for node in nodes)
        other = await ask(nodes[0], BOB)

    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 20}
    assert (calls, other.status_code) == (10, 200)


async def test_answers_tell_what_is_left_at_all_nodes(broker: Server) -> None:
    async with open_nodes(broker, requests_per_minute=3) as (one, two):
        taken = [await ask(node) for node in (one, two, one)]
        refused = await ask(two)
        looked = await two.http.get("/v1/generations", headers=ALICE)

    assert [each.headers[REMAINING] for each in taken] == ["2", "1", "0"]
    assert refusal_of(refused) == (429, "rate_limit_exceeded")
    assert error_of(refused)["type"] == "rate_limit_error"
    assert 50 < int(refused.headers["retry-after"]) <= 60
    for answer in (refused, looked):
        assert (answer.headers[LIMIT], answer.headers[REMAINING]) == ("3", "0")
        assert answer.headers[RESET][:2] in ("1m", "59", "58", "57", "56", "55")


async def test_who_joins_what_runs_elsewhere_is_counted_once(broker: Server) -> None:
    share = LASTING | {"x-generation-key": "k"}
    async with (
        open_nodes(broker, requests_per_minute=3) as (one, two),
        one.ask(headers=share) as first,
    ):
        heads = [await first.response_head()]
        async with two.ask(headers=share) as second:
            heads.append(await second.response_head())
        left = await ask(one)

    assert [head.headers[REMAINING] for head in heads] == ["2", "1"]
    assert heads[0].headers["x-generation-id"] == heads[1].headers["x-generation-id"]
    assert left.headers[REMAINING] == "0"


async def test_who_is_refused_for_what_it_asks_is_not_counted(broker: Server) -> None:
    async with open_nodes(broker, requests_per_minute=3, max_prompt=20) as (one, _):
        too_large = await one.http.post(
            COMPLETIONS, json={"prompt": "x" * 21, "stream": True}, headers=ALICE
        )
        answer = await ask(one)

    assert too_large.status_code == 413
    assert answer.headers[REMAINING] == "2"


async def test_what_is_forwarded_is_counted(broker: Server) -> None:
    async with open_nodes(broker, requests_per_minute=2) as nodes:
        statuses = [
            (await nodes[number % 2].http.get("/v1/models", headers=ALICE)).status_code
            for number in range(3)
        ]

    assert statuses == [200, 200, 429]


async def test_three_run_at_both_nodes_together(broker: Server) -> None:
    async with open_nodes(broker, max_generations=3) as (one, two), AsyncExitStack() as stack:
        first, *_ = [
            await stack.enter_async_context(node.ask(headers=LASTING)) for node in (one, two, one)
        ]
        await wait_running(one, two, 3)

        refused = [await ask(node) for node in (one, two)]
        shared = LASTING | {"x-generation-key": "k"}
        also = await one.http.post(COMPLETIONS, json=COMPLETION, headers=shared)
        other = await ask(two, BOB)

        assert {refusal_of(each) for each in (*refused, also)} == {(429, "too_many_generations")}
        assert other.status_code == 200
        first.close()

        async def is_let_in() -> bool:
            return (await ask(two)).status_code == 200

        await wait_until(is_let_in)


async def test_who_joins_what_runs_elsewhere_takes_no_place(broker: Server) -> None:
    share = LASTING | {"x-generation-key": "k"}
    async with (
        open_nodes(broker, max_generations=1) as (one, two),
        one.ask(headers=share) as first,
    ):
        begun = await first.response_head()
        async with two.ask(headers=share) as second:
            joined = await second.response_head()

            assert (begun.status, joined.status) == (200, 200)
            assert joined.headers["x-cache"] == "join"
            assert refusal_of(await ask(two)) == (429, "too_many_generations")


async def test_two_read_at_both_nodes_together(broker: Server) -> None:
    share = LASTING | {"x-generation-key": "k"}
    async with (
        open_nodes(broker, max_tenant_subscribers=2) as (one, two),
        AsyncExitStack() as stack,
    ):
        readers = [await stack.enter_async_context(node.ask(headers=share)) for node in (one, two)]
        heads = [await reader.response_head() for reader in readers]
        assert [head.status for head in heads] == [200, 200]
        events = f"/v1/generations/{heads[0].headers['x-generation-id']}/events"

        third = await ask(one)
        looks_on = await two.http.get(events, headers=ALICE)
        async with open_socket(one, headers=ALICE) as socket:
            generation_id = heads[0].headers["x-generation-id"]
            over_socket = await socket.ask(type="subscribe", generation=generation_id)

        assert refusal_of(third) == refusal_of(looks_on) == (429, "too_many_subscribers")
        assert over_socket["error"]["code"] == "too_many_subscribers"


async def test_what_nobody_reads_yet_takes_no_place_among_those_who_read(broker: Server) -> None:
    async with (
        open_nodes(broker, max_tenant_subscribers=1) as (one, two),
        one.ask(headers=LASTING) as client,
    ):
        await client.response_head()

        made = [
            await node.http.post("/v1/generations", json=CREATION, headers=ALICE)
            for node in (one, two)
        ]

        assert [answer.status_code for answer in made] == [201, 201]


async def test_who_has_no_limit_is_not_asked_for(broker: Server) -> None:
    async with open_nodes(broker, requests_per_minute=9, cluster_down="refuse") as (one, _):
        broker.stop()  # whatever it is asked for is refused
        refused = await ask(one)
        answer = await ask(one, CAROL)
        broker.go_on()

    assert refusal_of(refused) == (503, "cluster_unavailable")
    assert answer.status_code == 200
    assert LIMIT not in answer.headers


async def test_alone_each_node_counts_by_itself(broker: Server) -> None:
    async with open_nodes(broker, requests_per_minute=3) as (one, two):
        for node in (one, two):
            await ask(node)
        broker.kill()

        statuses = [[(await ask(node)).status_code for _ in range(3)] for node in (one, two)]

    # of the three of its own each node had counted one while they were together
    assert statuses == [[200, 200, 429]] * 2


async def test_without_the_broker_one_that_refuses_refuses(broker: Server) -> None:
    async with open_nodes(broker, requests_per_minute=3, cluster_down="refuse") as (one, _):
        broker.kill()
        refused = await ask(one)
        forwarded = await one.http.get("/v1/models", headers=ALICE)

    for answer in (refused, forwarded):
        assert refusal_of(answer) == (503, "cluster_unavailable")


async def test_who_finds_no_room_was_let_in_and_is_counted(broker: Server) -> None:
    async with (
        open_nodes(broker, requests_per_minute=9, max_generations=1) as (one, two),
        one.ask(headers=LASTING) as client,
    ):
        await client.response_head()

        refused = await ask(two)

    assert refusal_of(refused) == (429, "too_many_generations")
    assert refused.headers[REMAINING] == "7"


async def wait_running(one: SimulatedService, two: SimulatedService, number: int) -> None:
    async def run() -> bool:
        await trio.lowlevel.checkpoint()
        return len(one.proxy.hub.running) + len(two.proxy.hub.running) == number

    await wait_until(run)


# -- in virtual time -------------------------------------------------------------------------------


@asynccontextmanager
async def open_limits(
    broker: FakeBroker, name: str, *, goes_alone: bool = True, **settings: Any
) -> AsyncGenerator[SharedLimits]:
    quotas = Quotas(Settings(**settings))
    async with open_member(broker, name) as member:
        yield SharedLimits(member.node, quotas, Rates(quotas.rate_of), goes_alone=goes_alone)


async def use_one(limits: SharedLimits) -> None:
    async with limits.counted("alice") as ticket:
        assert ticket is not None
        ticket.use()


async def test_what_is_not_let_in_is_counted_no_more(autojump_clock: MockClock) -> None:
    async with open_limits(FakeBroker(), "one", requests_per_minute=2) as limits:
        for _ in range(5):
            async with limits.counted("alice"):
                pass
            await trio.sleep(1)
        await use_one(limits)
        await use_one(limits)

        with pytest.raises(RateLimited) as refused:
            await use_one(limits)

        assert refused.value.retry_after == 60
        await trio.sleep(60)
        await use_one(limits)


@pytest.mark.parametrize("limiter", ["sliding-window", "token-bucket"])
async def test_what_was_told_grows_old(autojump_clock: MockClock, limiter: str) -> None:
    rate: dict[str, Any] = {"requests_per_minute": 6, "rate_limiter": limiter, "burst": 6}
    broker = FakeBroker()
    async with open_limits(broker, "one", **rate) as one, open_limits(broker, "two", **rate) as two:
        await use_one(one)
        for _ in range(3):
            await use_one(two)
        flown = {"sliding-window": 2, "token-bucket": 4}[limiter]
        left = {"sliding-window": 40, "token-bucket": 20}[limiter]

        assert two.look("alice") == Allowance(6, 2, left + 20)
        await trio.sleep(20)
        assert two.look("alice") == Allowance(6, flown, left)
        await trio.sleep(40)
        assert two.look("alice") == Allowance(6, 6, 0)
        assert two.look("bob") == Allowance(6, 6, 0)


async def test_a_silent_broker_is_waited_for_no_longer_than_patience(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    rate: dict[str, Any] = {"requests_per_minute": 2}
    async with (
        open_limits(broker, "one", **rate) as alone,
        open_limits(broker, "two", goes_alone=False, **rate) as refuses,
    ):
        broker.stop()
        began_at = trio.current_time()

        async with alone.counted("alice") as ticket, alone.room("alice"):
            assert ticket is None
        with pytest.raises(ClusterDown):
            await use_one(refuses)
        with pytest.raises(ClusterDown):
            async with refuses.room("alice"):
                pass
        async with refuses.seat("alice"):  # which has no limit
            pass

        assert trio.current_time() - began_at == 4 * PATIENCE
        broker.go_on()
