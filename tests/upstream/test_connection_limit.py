"""A bound on open connections: who waits for one gets it in turn, and none is lost, whatever is
cancelled when."""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.stepping import AtStep
from tests.upstream.calls import read, upstream_to
from tests.upstream.engine import Peer, play_each, start_engine, whole_stream
from tests.upstream.nowhere import listen_in_vain
from trioproxy.testing import TaskCensus
from trioproxy.upstream import Timeouts, Upstream, UpstreamUnreachable
from trioproxy.upstream.places import Places

ANSWER = whole_stream(b"a")
LIMIT = 3


async def test_no_more_connections_are_open_than_the_limit(nursery: trio.Nursery) -> None:
    most = 0

    async def count_and_answer(peer: Peer) -> None:
        nonlocal most
        await peer.request()
        await wait_all_tasks_blocked()
        most = max(most, sum(not peer.left.is_set() for peer in engine.peers))
        await peer.send(ANSWER)

    engine = await start_engine(nursery, count_and_answer)
    upstream = upstream_to(engine, max_calls=LIMIT)
    async with trio.open_nursery() as calls:
        for _ in range(LIMIT * 4):
            calls.start_soon(read, upstream)

    assert most == LIMIT
    assert len(engine.peers) == LIMIT * 4


async def test_kept_connections_count_and_serve_those_who_wait(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play_each(*[ANSWER] * 20))
    upstream = upstream_to(engine, max_calls=LIMIT)
    async with upstream.keep_alive(), trio.open_nursery() as calls:
        for _ in range(LIMIT * 5):
            calls.start_soon(read, upstream)

    assert len(engine.peers) == LIMIT


async def test_who_came_first_is_served_first_though_others_give_up(
    nursery: trio.Nursery,
) -> None:
    may_answer = trio.Event()
    served: list[int] = []
    scopes = [trio.CancelScope() for _ in range(10)]

    async def answer_in_time(peer: Peer) -> None:
        await peer.request()
        await may_answer.wait()
        await peer.send(ANSWER)

    async def call(number: int) -> None:
        with scopes[number]:
            await read(upstream)
            served.append(number)

    engine = await start_engine(nursery, answer_in_time)
    upstream = upstream_to(engine, max_calls=1)
    async with trio.open_nursery() as calls:
        for number in range(10):
            calls.start_soon(call, number)
            await wait_all_tasks_blocked()
        for number in (0, 3, 4, 9):
            scopes[number].cancel()
            await wait_all_tasks_blocked()
        may_answer.set()

    assert served == [1, 2, 5, 6, 7, 8]


@pytest.mark.parametrize("keeps", [False, True], ids=["new", "kept"])
async def test_churn_of_cancelled_calls_costs_no_place(nursery: trio.Nursery, keeps: bool) -> None:
    rng = random.Random(1)
    engine = await start_engine(nursery, play_each(*[ANSWER] * 1000))
    upstream = upstream_to(engine, max_calls=LIMIT)
    completed: list[int] = []

    async def call(number: int, scope: trio.CancelScope) -> None:
        with scope:
            await read(upstream)
            completed.append(number)

    async def churn() -> None:
        for _ in range(50):
            with ExitStack() as instants:
                async with trio.open_nursery() as calls:
                    for number in range(10):
                        scope = trio.CancelScope()
                        step = round(10 ** rng.uniform(0, 2.6))
                        instants.enter_context(AtStep(step, scope.cancel))
                        calls.start_soon(call, number, scope)

    async def call_all_places() -> None:
        async with trio.open_nursery() as calls:
            for number in range(LIMIT):
                calls.start_soon(call, number, trio.CancelScope())

    async def live() -> None:
        await churn()
        survivors = len(completed)
        completed.clear()
        await call_all_places()
        assert 50 < survivors < 450
        assert sorted(completed) == list(range(LIMIT))

    with TaskCensus() as census:
        if keeps:
            async with upstream.keep_alive():
                await live()
        else:
            await live()

        assert upstream.open_calls == 0
        await census.settled()


async def test_failed_and_cancelled_connecting_costs_no_place() -> None:
    with listen_in_vain() as url, TaskCensus():
        upstream = Upstream(url, places=Places(1), timeouts=Timeouts(connect=0.01))
        for _ in range(5):
            with pytest.raises(UpstreamUnreachable):
                await read(upstream)
            async with trio.open_nursery() as calls:
                calls.start_soon(read, upstream)
                await wait_all_tasks_blocked()
                calls.cancel_scope.cancel()

        assert upstream.open_calls == 0
