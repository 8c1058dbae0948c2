"""Many calls at once, and many that are given up: none waits for another, none takes a place that
it does not give back."""

from __future__ import annotations

import random
from contextlib import ExitStack

import trio

from tests.support.reading import Reading
from tests.support.stepping import AtStep
from tests.upstream.calls import read, stream_of, upstream_to
from tests.upstream.engine import (
    DONE,
    HEAD_OF_STREAM,
    LAST_CHUNK,
    Peer,
    chunk,
    events,
    play,
    start_engine,
)
from trioproxy.fanout import COMPLETED, open_hub
from trioproxy.testing import TaskCensus

ROUNDS = 50
CALLS = 20
ANSWER = [HEAD_OF_STREAM, chunk(events(b"a")), chunk(DONE), LAST_CHUNK]


async def test_churn_of_cancelled_calls_costs_no_later_call_its_place(
    nursery: trio.Nursery,
) -> None:
    rng = random.Random(1)
    engine = await start_engine(nursery, play(*ANSWER))
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        completed: list[int] = []

        async def call(number: int, scope: trio.CancelScope) -> None:
            with scope:
                await read(upstream)
                completed.append(number)

        for _ in range(ROUNDS):
            with ExitStack() as instants:
                async with trio.open_nursery() as calls:
                    for number in range(CALLS):
                        scope = trio.CancelScope()
                        step = round(10 ** rng.uniform(0, 2.8))
                        instants.enter_context(AtStep(step, scope.cancel))
                        calls.start_soon(call, number, scope)
        cancelled = ROUNDS * CALLS - len(completed)
        completed.clear()
        async with trio.open_nursery() as calls:
            for number in range(CALLS):
                calls.start_soon(call, number, trio.CancelScope())

        assert cancelled > ROUNDS * CALLS / 2
        assert sorted(completed) == list(range(CALLS))
        assert upstream.open_calls == 0
        await census.settled()


async def test_generations_run_side_by_side_however_many_they_are(nursery: trio.Nursery) -> None:
    count = 150
    all_there = trio.Event()

    async def answer_once_all_are_there(peer: Peer) -> None:
        await peer.request()
        if upstream.open_calls == len(engine.peers) == count:
            all_there.set()
        await all_there.wait()
        await peer.send(*ANSWER)

    async def follow(number: int, reading: Reading) -> None:
        with hub.join(number, stream_of(upstream)) as subscriber:
            await reading.follow(subscriber)

    engine = await start_engine(nursery, answer_once_all_are_there)
    upstream = upstream_to(engine)
    readings = [Reading() for _ in range(count)]
    async with open_hub() as hub, trio.open_nursery() as readers:
        for number, reading in enumerate(readings):
            readers.start_soon(follow, number, reading)

    assert [reading.data for reading in readings] == [[b"a", b"[DONE]"]] * count
    assert {reading.end for reading in readings} == {COMPLETED}
