"""Brokers that nodes share: a fake one, and those on servers; and what tests ask of both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import trio
from coredis.connection import TCPConnection, TCPLocation

from tests.cluster.redis_cluster import RedisCluster
from tests.cluster.servers import Server
from trioproxy.cluster import (
    MAIL_START,
    START,
    Addition,
    Batch,
    Broker,
    BrokerDown,
    BrokerError,
    Cursor,
    Lease,
    Part,
    Ref,
    Terms,
)
from trioproxy.cluster.redis import open_redis_broker
from trioproxy.testing.broker import FakeBroker
from trioproxy.wire import Message

REF = Ref("ab12", "gen_1")
LONG = Terms(lease=30)
SHORT = Terms(lease=0.2)
WITHIN = 10.0

LANE = 3
"""That of a cluster on which the contract is run; its keys are not where the URL leads to."""


class Shared(Protocol):
    """A broker that is empty, and what nodes see of it."""

    async def port(self, node: str, terms: Terms = LONG) -> Broker: ...

    async def seconds_left(self) -> dict[str, float]:
        """Of each key."""
        ...

    async def pass_time(self, seconds: float) -> None: ...

    async def wipe(self) -> None: ...

    async def fill(self) -> None:
        """No memory is left."""
        ...


class SharedFake:
    def __init__(self) -> None:
        self.broker = FakeBroker()

    async def port(self, node: str, terms: Terms = LONG) -> Broker:
        return self.broker.port(node, terms)

    async def seconds_left(self) -> dict[str, float]:
        return self.broker.memory.seconds_left()

    async def pass_time(self, seconds: float) -> None:
        self.broker.jump(seconds)

    async def wipe(self) -> None:
        self.broker.wipe()

    async def fill(self) -> None:
        self.broker.is_full = True


class SharedServer:
    """``admin`` is a connection beside those of the nodes."""

    def __init__(self, server: Server, admin: TCPConnection, nursery: trio.Nursery) -> None:
        self.server = server
        self.admin = admin
        self._nursery = nursery

    async def port(self, node: str, terms: Terms = LONG) -> Broker:
        """The node's tasks are the fixture's, not the test's."""
        broker: Broker = await self._nursery.start(self._hold_port, node, terms)
        with trio.fail_after(10):
            await broker.wait_up()
        return broker

    async def _hold_port(
        self, node: str, terms: Terms, *, task_status: trio.TaskStatus[Broker]
    ) -> None:
        async with self._open(node, terms) as broker:
            task_status.started(broker)
            await trio.sleep_forever()

    def _open(self, node: str, terms: Terms) -> AbstractAsyncContextManager[Broker]:
        return open_redis_broker(self.server.url, node, terms)

    async def command(self, *words: str | bytes | int) -> Any:
        name, *arguments = words
        assert isinstance(name, str)
        return await self.admin.create_request(name.encode(), *arguments)

    async def seconds_left(self) -> dict[str, float]:
        names: list[bytes] = await self.command("KEYS", "*")
        return {name.decode(): await self.command("PTTL", name) / 1000 for name in names}

    async def pass_time(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def wipe(self) -> None:
        await self.command("FLUSHALL")

    async def fill(self) -> None:
        await self.command("CONFIG", "SET", "maxmemory", "1mb")


class SharedCluster(SharedServer):
    """One lane of a cluster, whose keys are all on ``server``."""

    def __init__(self, cluster: RedisCluster, admin: TCPConnection, nursery: trio.Nursery) -> None:
        super().__init__(cluster.primary_of(LANE), admin, nursery)
        self._url = cluster.url

    def _open(self, node: str, terms: Terms) -> AbstractAsyncContextManager[Broker]:
        return open_redis_broker(self._url, node, terms, lane=LANE)


@asynccontextmanager
async def share_server(server: Server | RedisCluster) -> AsyncGenerator[SharedServer]:
    """The server, or the one that has the lane, empty, for the length of the block."""
    async with trio.open_nursery() as nursery:
        at = server.primary_of(LANE) if isinstance(server, RedisCluster) else server
        admin = TCPConnection(TCPLocation("127.0.0.1", at.port))
        await nursery.start(admin.run)
        if isinstance(server, RedisCluster):
            shared = SharedCluster(server, admin, nursery)
        else:
            shared = SharedServer(server, admin, nursery)
        await shared.command("CONFIG", "SET", "maxmemory", "0")
        await shared.command("FLUSHALL")
        await shared.command("SCRIPT", "FLUSH")
        yield shared
        nursery.cancel_scope.cancel()


def share(server: Server | RedisCluster | None) -> AbstractAsyncContextManager[Shared]:
    """The server, or the fake where there is none."""
    return _share_fake() if server is None else share_server(server)


@asynccontextmanager
async def _share_fake() -> AsyncGenerator[SharedFake]:
    yield SharedFake()


# -- what nodes do ---------------------------------------------------------------------------------


async def own(broker: Broker, ref: Ref = REF) -> Lease:
    """Be elected."""
    lease = await broker.elect(ref, b"about")
    assert isinstance(lease, Lease)
    return lease


async def publish(
    broker: Broker, lease: Lease, events: Batch, *, after: int, alias: str | None = None
) -> None:
    """Add to one log. Raises what was wrong."""
    (wrong,) = await broker.publish([Addition(lease, events, after, alias)])
    if wrong is not None:
        raise wrong


async def renew(broker: Broker, lease: Lease) -> int:
    """Hold one lease. Returns how many are interested; raises what is wrong."""
    (interested,) = await broker.renew([lease])
    if isinstance(interested, BrokerError):
        raise interested
    return interested


async def keep_interest(broker: Broker, ref: Ref) -> float:
    """Stay interested in one. Returns what is left of its lease; raises what is wrong."""
    (left,) = await broker.keep_interest([ref])
    if isinstance(left, BrokerError):
        raise left
    return left


async def again(operation: Callable[[], Awaitable[object]]) -> object:
    """Ask until the broker answers."""
    with trio.fail_after(WITHIN):
        while True:
            try:
                return await operation()
            except BrokerDown:
                await trio.sleep(0.01)


def batch(first: int, last: int, data: bytes = b"event ") -> Batch:
    """Events of which each tells its own number."""
    return Batch(first, [Message(None, data + b"%d" % seq) for seq in range(first, last + 1)])


async def log_of(
    broker: Broker, ref: Ref = REF, cursor: Cursor = START
) -> tuple[Cursor, list[Part]]:
    """What is in a log, as far as it is there at once."""
    parts: list[Part] = []
    while True:
        news = await broker.read({ref: cursor}, "9" * 14 + "-0", wait=0)
        if ref not in news.logs:
            return cursor, parts
        cursor, more = news.logs[ref]
        parts += more


async def words(broker: Broker, mail: str = MAIL_START) -> list[str]:
    """What is in a node's mailbox, as far as it is there at once."""
    news = await broker.read({}, mail, wait=0)
    return [letter.word for letter in news.letters]
