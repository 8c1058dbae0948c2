"""Nodes that ask each other: who answers, who does not, and for how long they are waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import trio
from trio.testing import MockClock

from tests.cluster.nodes import TERMS, PlainCodec
from trioproxy.cluster import Heard, Node, open_node
from trioproxy.cluster.surveys import ANSWERED_WITHIN
from trioproxy.fanout import Hub
from trioproxy.testing import TaskCensus
from trioproxy.testing.broker import FakeBroker


@asynccontextmanager
async def open_nodes(broker: FakeBroker, *names: str) -> AsyncGenerator[list[Node]]:
    def answering(name: str) -> AbstractAsyncContextManager[Node]:
        def answer(hub: Hub, question: bytes) -> bytes:
            if question == b"nonsense":
                raise ValueError("what is that?")
            if question == b"trap":
                raise OverflowError("a fault of this node's own")
            return f"{name} has {len(list(hub.running))}, ".encode() + question

        return open_node([broker.port(name, TERMS)], PlainCodec(), answer=answer)

    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(answering(name)) for name in names]
        await trio.sleep(TERMS.lease / 2)  # each has told that it lives
        yield nodes


async def test_all_others_answer(autojump_clock: MockClock) -> None:
    async with open_nodes(FakeBroker(), "one", "two", "three") as (one, _, _):
        began = trio.current_time()
        heard = await one.ask(b"please")

        answers = {"two": b"two has 0, please", "three": b"three has 0, please"}
        assert heard == Heard(answers, [])
        assert trio.current_time() == began


async def test_one_can_be_asked(autojump_clock: MockClock) -> None:
    async with open_nodes(FakeBroker(), "one", "two", "three") as (one, _, _):
        assert await one.ask(b"please", of="three") == Heard({"three": b"three has 0, please"}, [])


async def test_who_is_parted_is_missing_and_waited_for_a_moment(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_nodes(broker, "one", "two", "three") as (one, _, _):
        broker.cut("two")
        began = trio.current_time()
        heard = await one.ask(b"please")
        waited = trio.current_time() - began
        await trio.sleep(2 * TERMS.lease)
        later = await one.ask(b"please")

    assert heard == Heard({"three": b"three has 0, please"}, ["two"])
    assert waited == ANSWERED_WITHIN
    assert later == Heard({"three": b"three has 0, please"}, [])


async def test_without_a_broker_nobody_knows_who_is_there(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_nodes(broker, "one", "two") as (one, _):
        broker.cut("one")

        assert await one.ask(b"please") == Heard({}, None)


async def test_who_has_closed_is_not_waited_for(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_nodes(broker, "one") as (one,):
        async with open_nodes(broker, "two"):
            assert (await one.ask(b"please")).answers == {"two": b"two has 0, please"}
        assert await one.ask(b"please") == Heard({}, [])


async def test_who_does_not_understand_is_missing_and_lives_on(autojump_clock: MockClock) -> None:
    async with open_nodes(FakeBroker(), "one", "two") as (one, _):
        for question in (b"nonsense", b"trap"):
            assert await one.ask(question) == Heard({}, ["two"])
        assert (await one.ask(b"please")).missing == []


async def test_who_gives_up_leaves_nothing(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with open_nodes(broker, "one", "two") as (one, two):
        with TaskCensus() as census:
            broker.cut("two")
            with trio.move_on_after(ANSWERED_WITHIN / 2) as patience:
                await one.ask(b"please")
            broker.mend("two")
            await trio.sleep(1)
            await census.settled()
        assert patience.cancelled_caught
        assert await two.ask(b"please") == Heard({"one": b"one has 0, please"}, [])


async def test_many_ask_at_once(autojump_clock: MockClock) -> None:
    async with open_nodes(FakeBroker(), "one", "two", "three") as nodes:
        heard: list[Heard] = []

        async def ask(node: Node, number: int) -> None:
            heard.append(await node.ask(b"%d" % number))

        async with trio.open_nursery() as nursery:
            for number in range(90):
                nursery.start_soon(ask, nodes[number % 3], number)

    assert len(heard) == 90
    assert all(len(one.answers) == 2 and not one.missing for one in heard)
