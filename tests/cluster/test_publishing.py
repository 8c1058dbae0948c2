"""When what is new of generations is written. In virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.cluster.nodes import open_member
from tests.support.source import ScriptedSource
from trioproxy.cluster import NOTICE, Batch, Lease, NodeWatch, Ref, Terms
from trioproxy.cluster.publishing import PACE, SLACK, SPARE_PACE, Publication
from trioproxy.fanout import Identity, open_hub
from trioproxy.testing.broker import FakeBroker

MOMENT = PACE / 10
LONG = Terms(lease=1000.0)


class Writes(NodeWatch):
    """When each write had its answer, and which events it was of."""

    def __init__(self) -> None:
        self.all: list[tuple[float, list[bytes]]] = []

    def published(self, batches: Sequence[Batch], seconds: float) -> None:
        texts = [message.data for batch in batches for message in batch.messages]
        self.all.append((trio.current_time(), texts))

    def since(self, at: float) -> list[tuple[float, list[bytes]]]:
        """Those after a time, and how long after."""
        return [(round(when - at, 6), texts) for when, texts in self.all if when >= at]


@asynccontextmanager
async def publishing(
    broker: FakeBroker, number: int = 2, *, is_wanted: bool = True
) -> AsyncGenerator[tuple[list[ScriptedSource], list[Ref], Writes]]:
    """The sources and the names of so many generations of a node that publishes everything, which
    has had nothing to write for a while; another node is interested if they are wanted."""
    writes = Writes()
    async with open_member(broker, "one", always=True, node_watch=writes) as member:
        sources = [ScriptedSource(head=b"head") for _ in range(number)]
        refs: list[Ref] = []
        for index, source in enumerate(sources):
            with member.node.own(f"{index:032x}", b"about") as lease:
                identity = Identity(lease.ref.public_id, notice=NOTICE)
                member.node.hub.start(None, source, linger=1000, identity=identity)
            refs.append(lease.ref)
            await trio.sleep(0.4)
            if is_wanted:
                await broker.port("two", LONG).join(lease.ref)
        await trio.sleep(0.4)
        yield sources, refs, writes


async def test_what_comes_after_a_while_is_written_at_once(autojump_clock: MockClock) -> None:
    async with publishing(FakeBroker()) as ((one, _), _, writes):
        began_at = trio.current_time()
        one.arrive(b"a")
        await trio.sleep(1)

        assert writes.since(began_at) == [(0, [b"a"])]


async def test_what_comes_meanwhile_is_written_together_when_nothing_else_comes(
    autojump_clock: MockClock,
) -> None:
    async with publishing(FakeBroker()) as ((one, two), _, writes):
        began_at = trio.current_time()
        one.arrive(b"a")
        await trio.sleep(MOMENT)
        two.arrive(b"b")
        await trio.sleep(MOMENT)
        one.arrive(b"c")
        await trio.sleep(1)

        assert writes.since(began_at) == [(0, [b"a"]), (round(PACE + SLACK, 6), [b"b", b"c"])]


async def test_what_comes_when_a_round_may_begin_takes_the_others_along(
    autojump_clock: MockClock,
) -> None:
    async with publishing(FakeBroker()) as ((one, two), _, writes):
        began_at = trio.current_time()
        one.arrive(b"a")
        await trio.sleep(MOMENT)
        two.arrive(b"b")
        await trio.sleep(PACE)
        one.arrive(b"c")
        await trio.sleep(1)

        assert writes.since(began_at) == [(0, [b"a"]), (round(PACE + MOMENT, 6), [b"b", b"c"])]


async def test_what_comes_while_something_is_written_is_not_forgotten(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with publishing(broker) as ((one, two), _, writes):
        broker.delay = PACE / 2
        began_at = trio.current_time()
        one.arrive(b"a")
        await trio.sleep(MOMENT)
        two.arrive(b"b")
        await trio.sleep(1)

        answered = PACE / 2, PACE + SLACK + PACE / 2
        assert writes.since(began_at) == [
            (round(at, 6), [text]) for at, text in zip(answered, (b"a", b"b"), strict=True)
        ]


async def test_what_nobody_waits_for_is_gathered_first(autojump_clock: MockClock) -> None:
    async with publishing(FakeBroker(), is_wanted=False) as ((one, two), _, writes):
        began_at = trio.current_time()
        one.arrive(b"a")
        await trio.sleep(MOMENT)
        two.arrive(b"b")
        await trio.sleep(SPARE_PACE / 2)
        one.arrive(b"c")
        await trio.sleep(1)

        assert writes.since(began_at) == [(SPARE_PACE, [b"a", b"c", b"b"])]


async def test_what_somebody_waits_for_does_not_wait_for_the_rest(
    autojump_clock: MockClock,
) -> None:
    broker = FakeBroker()
    async with publishing(broker, is_wanted=False) as ((one, two), (_, of_two), writes):
        await broker.port("two", LONG).join(of_two)
        await trio.sleep(1)
        began_at = trio.current_time()
        one.arrive(b"a")
        await trio.sleep(MOMENT)
        for text in (b"b", b"c", b"d"):
            two.arrive(text)
            await trio.sleep(SPARE_PACE / 3)

        assert writes.since(began_at) == [
            (round(MOMENT + at, 6), texts)
            for at, texts in (
                (0, [b"b"]),
                (SPARE_PACE / 3, [b"c"]),
                (SPARE_PACE / 3 * 2, [b"d"]),
                (SPARE_PACE - MOMENT, [b"a"]),
            )
        ]


async def test_who_comes_has_it_written_at_once(autojump_clock: MockClock) -> None:
    broker = FakeBroker()
    async with publishing(broker, number=1, is_wanted=False) as ((one,), (of_one,), writes):
        began_at = trio.current_time()
        one.arrive(b"a")
        await trio.sleep(MOMENT)
        await broker.port("two", LONG).join(of_one)
        await trio.sleep(1)

        assert writes.since(began_at) == [(round(MOMENT, 6), [b"a"])]


async def test_what_a_broker_lost_while_it_was_written_is_written_again() -> None:
    async with open_hub() as hub:
        source = ScriptedSource(head=b"head")
        generation = hub.start(None, source, linger=1000)
        publication = Publication(Lease(Ref.new("ab"), 1), generation, lambda _: None)
        publication.join(hub, lambda: None)
        for text in (b"a", b"b"):
            source.arrive(text)
            await wait_all_tasks_blocked()
            addition = publication.take()
            assert addition is not None
            if text == b"b":
                publication.go_back(0)
            publication.note_written(addition)

        again = publication.take()
        assert again is not None
        assert (again.after, [message.data for message in again.batch.messages]) == (
            0,
            [b"a", b"b"],
        )
        publication.leave()
        generation.cancel("stopped")
