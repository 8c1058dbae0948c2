"""A Redis Cluster as the broker: where its lanes are, and where they are when it has changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.cluster.brokers import LONG, again, batch, log_of, own, publish, renew
from tests.cluster.nodes import open_member_at
from tests.cluster.redis_cluster import LANES, RedisCluster, ask, run_cluster, run_member, until
from tests.cluster.servers import free_port, run_server
from tests.support.reading import read_to_end
from trioproxy.cluster import MAIL_START, START, BrokerDown, Cursor, Letter, Ref, Terms
from trioproxy.cluster.keys import slot_of
from trioproxy.cluster.redis import RedisBroker, open_redis_broker, open_redis_brokers
from trioproxy.fanout import COMPLETED

WITHIN = 20.0
REQUESTS = ["bb" * 16, "cc" * 16, "22" * 16, "aa" * 16]
"""One of each lane."""


@pytest.fixture(scope="module")
def changing() -> Generator[RedisCluster]:
    """A cluster that tests change, each another lane of it."""
    with run_cluster("valkey") as cluster:
        yield cluster


@asynccontextmanager
async def open_brokers(
    cluster: RedisCluster, node: str = "one", terms: Terms = LONG
) -> AsyncGenerator[Sequence[RedisBroker]]:
    async with open_redis_brokers(cluster.url, node, terms) as brokers:
        with trio.fail_after(WITHIN):
            for broker in brokers:
                await broker.wait_up()
        yield brokers


async def test_each_lane_is_on_the_server_that_has_its_slot(redis_cluster: RedisCluster) -> None:
    redis_cluster.empty()
    async with open_brokers(redis_cluster) as brokers:
        for request, broker in zip(REQUESTS, brokers, strict=True):
            lease = await own(broker, Ref(request, "gen"))
            await publish(broker, lease, batch(1, 3), after=0)
            await broker.ping()
            await broker.send("one", Letter("cancel", lease.ref, "one"))
            news = await broker.read({lease.ref: START}, MAIL_START, wait=0)
            assert len(news.letters) == len(news.logs) == 1

    for server in redis_cluster.primaries:
        lanes = [lane for lane in range(LANES) if redis_cluster.primary_of(lane) is server]
        names = [word for word in ask(server, "KEYS *").split() if word.startswith("tp:")]
        assert {int(name[4]) for name in names} == set(lanes)
        assert {name.rsplit(":")[-1] for name in names} >= {"rk", "m", "l", "ctl", "epoch"}


async def test_nodes_share_generations_in_all_lanes(redis_cluster: RedisCluster) -> None:
    redis_cluster.empty()
    async with (
        open_brokers(redis_cluster, "one", Terms(lease=1)) as at_one,
        open_brokers(redis_cluster, "two", Terms(lease=1)) as at_two,
        open_member_at(at_one) as one,
        open_member_at(at_two) as two,
    ):
        with trio.fail_after(WITHIN):
            for request in REQUESTS:
                async with one.reading(request), two.reading(request) as reader:
                    one.calls[-1].arrive(b"text")
                    await anext(reader)
                    one.calls[-1].complete(b"more")
                    reading = await read_to_end(reader)
                assert (reading.data, reading.end) == ([b"more", b"[DONE]"], COMPLETED)
    assert (len(one.calls), len(two.calls)) == (len(REQUESTS), 0)


async def test_a_lane_is_followed_to_the_server_that_its_slot_is_moved_to(
    changing: RedisCluster,
) -> None:
    moved, slot = 2, slot_of(2)
    source, target, other = (changing.primaries[index] for index in (1, 0, 2))
    assert changing.primary_of(1) is changing.primary_of(moved) is source
    async with open_brokers(changing) as brokers, trio.open_nursery() as nursery:
        began = [broker.up_since for broker in brokers]
        lease = await own(brokers[moved], Ref(REQUESTS[moved], "gen"))
        nursery.start_soon(_read_until_lost, brokers[moved])
        ask(target, f"CLUSTER SETSLOT {slot} IMPORTING {changing.name_of(source)}")
        ask(source, f"CLUSTER SETSLOT {slot} MIGRATING {changing.name_of(target)}")

        with pytest.raises(BrokerDown):
            await brokers[moved].elect(Ref("ee" * 16, "gen"), b"about")
        assert brokers[moved].up_since == began[moved]
        names = ask(source, f"CLUSTER GETKEYSINSLOT {slot} 100").split()
        keys = " ".join(name for name in names if name.startswith("tp:"))
        assert "+OK" in ask(source, f'MIGRATE 127.0.0.1 {target.port} "" 0 5000 KEYS {keys}')
        for server in (target, source, other):
            ask(server, f"CLUSTER SETSLOT {slot} NODE {changing.name_of(target)}")

        assert await again(lambda: renew(brokers[moved], lease)) == 0
        await publish(brokers[moved], lease, batch(1, 3), after=0)
        await again(lambda: brokers[moved].read({}, MAIL_START, wait=0))
        assert (await log_of(brokers[moved], lease.ref))[0] == Cursor(1, 3)
        assert [broker.up_since == at for broker, at in zip(brokers, began, strict=True)] == [
            lane != moved for lane in range(LANES)
        ]


async def test_a_lane_is_followed_to_the_replica_that_takes_over(changing: RedisCluster) -> None:
    """When its primary hands over, and when it is gone, although it is the only one that the URL
    names."""
    lane, bus = 0, free_port()
    primary = changing.primary_of(lane)
    assert str(primary.port) in changing.url
    with run_member("valkey", bus) as replica:
        changing.add_replica(replica, bus, primary)
        async with open_brokers(changing) as brokers:
            broker = brokers[lane]
            began = [broker.up_since for broker in brokers]
            lease = await own(broker, Ref(REQUESTS[lane], "gen"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_until_lost, broker)
                await trio.testing.wait_all_tasks_blocked(0.05)
                ask(replica, "CLUSTER FAILOVER")
            await again(lambda: broker.read({}, MAIL_START, wait=0))
            await again(lambda: publish(broker, lease, batch(1, 3), after=0))

            until(primary, "INFO replication", "master_link_status:up")
            assert ":1" in ask(replica, "WAIT 1 5000")
            replica.kill()
            for other in brokers[1:]:
                await other.ping()
            ask(primary, "CLUSTER FAILOVER TAKEOVER")

            assert await again(lambda: renew(broker, lease)) == 0
            await publish(broker, lease, batch(4, 5), after=3)
            await again(lambda: broker.read({}, MAIL_START, wait=0))
            assert (await log_of(broker, lease.ref))[0] == Cursor(1, 5)
            assert [broker.up_since == at for broker, at in zip(brokers, began, strict=True)] == [
                False,
                *[True] * (LANES - 1),
            ]


async def test_who_has_the_lane_is_told_to_a_user_that_may_ask(
    redis_cluster: RedisCluster,
) -> None:
    redis_cluster.empty()
    rights = "resetkeys ~tp:* -@all +eval +evalsha +ping +hello +client|setname +client|setinfo"
    of_scripts = "+xread +xadd +get +set +exists +hget +hset +hmget +hexists +pexpire +time"
    for server in redis_cluster.primaries:
        for user, more in (("guest", "+cluster|slots"), ("stranger", "")):
            ask(server, f"ACL SETUSER {user} on >secret {rights} {of_scripts} {more}")
    url = redis_cluster.url.replace("://", "://guest:secret@")
    async with open_redis_broker(url, "one", lane=1) as broker:
        with trio.fail_after(WITHIN):
            await broker.wait_up()
        await own(broker, Ref(REQUESTS[1], "gen"))

    async with open_redis_broker(url.replace("guest", "stranger"), "one", lane=1) as broker:
        await _until_told(broker, "no permissions to run the 'cluster|slots' command")


async def test_a_cluster_that_is_not_said_to_be_one_is_told_as_such(
    redis_cluster: RedisCluster,
) -> None:
    not_it = redis_cluster.primaries[0]
    assert redis_cluster.primary_of(0) is not not_it
    async with open_redis_broker(not_it.url, "one") as broker:
        await broker.wait_up()
        with pytest.raises(BrokerDown, match="a Redis Cluster has the keys at"):
            await broker.ping()


async def test_a_server_that_is_of_no_cluster_is_told_as_such_and_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with run_server("valkey") as server:
        url = f"redis://127.0.0.1:1,127.0.0.1:{server.port}?cluster=4"
        async with open_redis_broker(url, "one") as broker:
            await _until_told(broker, "cluster support disabled")
            await trio.sleep(0.5)  # in which it is asked again

    told = [record for record in caplog.records if record.name.startswith("trioproxy")]
    assert len(told) <= 2  # each connection by itself


async def _read_until_lost(broker: RedisBroker) -> None:
    """Wait in a read, which does not outlast the server that it is at."""
    with trio.fail_after(WITHIN), pytest.raises(BrokerDown):
        await broker.read({}, MAIL_START, wait=WITHIN)


async def _until_told(broker: RedisBroker, words: str) -> None:
    with trio.fail_after(WITHIN):
        while True:
            with pytest.raises(BrokerDown) as error:
                await broker.ping()
            if words in str(error.value):
                return
            await trio.sleep(0.01)
