"""What a node tells of itself and the broker: of nodes on a fake one, and of links to servers."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.brokers import REF
from tests.cluster.nodes import TERMS, Member, open_member
from tests.cluster.servers import Server
from tests.support.reading import read_to_end
from trioproxy.cluster import Batch, BrokerDown, BrokerError, NodeWatch
from trioproxy.cluster.redis import open_redis_broker
from trioproxy.fanout import Generation
from trioproxy.testing.broker import FakeBroker

MOMENT = 0.5
WITHIN = 20.0
LATE = 3 * TERMS.lease
"""By then a lease that is not renewed has been judged."""


class Told(NodeWatch):
    """What a node has said, in order."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.batches: list[tuple[int, int]] = []
        self.is_linked = trio.Event()

    def linked(self) -> None:
        self.words.append("linked")
        self.is_linked.set()

    def failed(self, operation: str, error: BrokerError) -> None:
        self.words.append(f"{operation} failed: {type(error).__name__}")

    def elected(self, *, is_owner: bool) -> None:
        self.words.append("owner" if is_owner else "joined")

    def published(self, batches: Sequence[Batch], seconds: float) -> None:
        self.batches += [(batch.first, batch.last) for batch in batches]

    def fenced(self, generation: Generation) -> None:
        self.words.append("fenced")

    def restored(self, generation: Generation) -> None:
        self.words.append("restored")

    def reaped(self) -> None:
        self.words.append("reaped")


@asynccontextmanager
async def two_that_are_told(
    broker: FakeBroker,
) -> AsyncGenerator[tuple[Member, Told, Member, Told]]:
    told = Told(), Told()
    async with (
        open_member(broker, "node0", node_watch=told[0]) as one,
        open_member(broker, "node1", node_watch=told[1]) as two,
    ):
        await trio.sleep(TERMS.lease)
        yield one, told[0], two, told[1]


async def test_who_makes_a_call_is_told_at_each_node(autojump_clock: MockClock) -> None:
    async with (
        two_that_are_told(FakeBroker()) as (one, told, two, told_two),
        one.reading(),
        two.reading(),
        two.reading(),  # joins what is here, and nobody is asked
    ):
        assert (told.words, told_two.words) == (["owner"], ["joined"])


async def test_what_is_published_is_told(autojump_clock: MockClock) -> None:
    async with two_that_are_told(FakeBroker()) as (one, told, two, _), one.reading():
        one.calls[0].arrive(b"one", b"two")
        await trio.sleep(MOMENT)
        assert told.batches == []
        async with two.reading():
            await trio.sleep(MOMENT)
            one.calls[0].arrive(b"three")
            await trio.sleep(MOMENT)

    assert told.batches == [(1, 2), (3, 3)]


async def test_a_publication_is_no_reader(autojump_clock: MockClock) -> None:
    async with (
        two_that_are_told(FakeBroker()) as (one, _, two, _),
        one.reading() as first,
        two.reading() as second,
    ):
        await trio.sleep(MOMENT)

        assert (len(first.generation.subscribers), first.generation.readers) == (2, 1)
        assert second.generation.readers == 1


async def test_as_many_readers_as_may_be_do_not_shut_other_nodes_out(
    autojump_clock: MockClock,
) -> None:
    async with two_that_are_told(FakeBroker()) as (one, _, two, _), one.reading() as first:
        first.generation.max_subscribers = 1
        async with two.reading() as second:
            one.calls[0].complete(b"text")
            with trio.fail_after(MOMENT):
                reading = await read_to_end(second)

    assert reading.data == [b"text", b"[DONE]"]


async def test_who_is_taken_for_dead_is_told_so_once(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with (
        two_that_are_told(broker) as (one, told, two, told_two),
        one.reading(),
        two.reading() as second,
    ):
        await trio.sleep(LATE)
        broker.cut("node0")
        assert (await read_to_end(second)).end is not None
        one.calls[0].arrive(b"late")
        await trio.sleep(MOMENT)
        broker.delay = 0.1
        broker.mend("node0")  # a renewal and a write are both on their way to be refused
        await trio.sleep(LATE)

        assert told.words == ["owner", "fenced"]
        assert told_two.words == ["joined", "reaped"]


async def test_what_the_broker_had_lost_is_told(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with two_that_are_told(broker) as (one, told, _, _), one.reading():
        broker.wipe()
        await trio.sleep(LATE)

        assert told.words == ["owner", "restored"]


# -- of links, to servers --------------------------------------------------------------------------


async def test_a_link_that_is_lost_and_made_again_is_a_line_each(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trioproxy.cluster")
    told = Told()
    async with open_redis_broker(server.url, "one", watch=told) as broker:
        with trio.fail_after(WITHIN):
            await broker.wait_up()
            await told.is_linked.wait()
            told.is_linked = trio.Event()
            server.kill()
            with pytest.raises(BrokerDown):
                await broker.join(REF)
            await trio.sleep(MOMENT)  # and some attempts
            server.start()
            await told.is_linked.wait()

    assert told.words == ["linked", "join failed: BrokerDown", "linked"]
    lines = [record.getMessage() for record in caplog.records]
    told_lines = ("lane 0 is linked", "lane 0 has no link to the broker: ", "lane 0 is linked")
    assert len(lines) == len(told_lines)
    assert all(map(str.startswith, lines, told_lines)), lines


async def test_a_broker_that_is_not_there_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async with open_redis_broker("redis://127.0.0.1:1", "one"):
        await trio.sleep(MOMENT)

    (record,) = caplog.records
    assert record.getMessage().startswith("lane 0 has no link to the broker: ")
