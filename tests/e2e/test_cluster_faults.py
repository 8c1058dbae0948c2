"""What can go wrong between nodes and their broker, done to processes: who is told, and when."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from coredis.connection import TCPConnection, TCPLocation

from tests.e2e.cluster_rig import (
    HEARTBEAT,
    LEASE,
    RATE,
    SLACK,
    Node,
    Reader,
    Rig,
    fresh_prompt,
    open_readers,
    open_rig,
)
from tests.e2e.polling import fetch
from tests.e2e.streams import COMPLETION, REPLAY, error_of, next_event, post, read_events
from tests.support.rawhttp import open_client
from trioproxy.cluster.keys import Ref, keys_of

JUDGED = LEASE + HEARTBEAT
"""Within so many seconds what is not renewed is seen to have run out."""

JUDGING = 1.5 * LEASE + 2 * HEARTBEAT
"""After so many seconds a node whose link is well has judged the owners of what it follows."""

RESPONSES = "/v1/responses"

STOPPED = 5.0
LONGEST_GAP = 0.1
FREE = 0.5
"""Seconds of a longest gap that are the busy machine's."""

PATIENCE = 3.0
"""Of nodes that refuse, or tell their readers, soon."""


@pytest.fixture(scope="module")
def three() -> Iterator[Rig]:
    with open_rig(3, "--cluster-down", "refuse") as rig:
        yield rig


@pytest.fixture
async def rig(three: Rig) -> AsyncIterator[Rig]:
    """Three nodes that are well, whatever was done to those of the test before."""
    await trio.to_thread.run_sync(three.mend, 3)
    await three.settle()
    yield three
    await three.wait_at_rest()


@contextmanager
def stopped(rig: Rig) -> Iterator[None]:
    """The broker, as a machine that hangs, for the length of the block."""
    rig.broker.stop()
    try:
        yield
    finally:
        rig.broker.go_on()


async def read_at(nodes: list[Node], readers: Any, prompt: str) -> list[Reader]:
    """A reader at each node, of which the first owns the call; each has read something."""
    joined = [(await readers.join(node, prompt))[0] for node in nodes]
    for reader in joined:
        await reader.wait_events(10)
    return joined


async def test_a_node_with_the_only_reader_that_is_killed_ends_the_call(rig: Rig) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers:
        _, leave = await readers.join(rig.nodes[0], prompt)
        only, _ = await readers.join(rig.nodes[1], prompt)
        await only.wait_events(10)
        leave()
        await trio.sleep(0.2)
        assert [call.outcome for call in await rig.calls(prompt)] == ["active"]

        killed_at = time.time()
        rig.nodes[1].kill()
        ended_at = await rig.wait_ended(prompt, within=20)

    assert ended_at - killed_at < JUDGED + SLACK


async def test_an_owner_that_is_killed_is_told_once_to_each_reader_elsewhere(rig: Rig) -> None:
    prompt = fresh_prompt()
    owner, *others = rig.nodes
    async with open_readers() as readers:
        mine, *theirs = await read_at([owner, *others, *others], readers, prompt)
        killed_at = trio.current_time()
        owner.kill()
        for reader in theirs:
            await reader.wait_over(within=20)

        again = await read_at(others, readers, prompt)

    assert [reader.errors for reader in theirs] == [["owner_lost"]] * 4
    assert max(reader.ended_at for reader in theirs) - killed_at < JUDGED + SLACK
    for reader in theirs:
        reader.assert_dense()
    assert {reader.generation_id for reader in again} != {mine.generation_id}
    assert len({reader.generation_id for reader in again}) == 1
    assert len(await rig.calls(prompt)) == 2


@pytest.mark.parametrize("fault", [Node.partitioned, Node.stopped], ids=["partitioned", "stopped"])
async def test_an_owner_that_was_taken_for_dead_keeps_its_readers_and_publishes_nothing(
    rig: Rig, fault: Any
) -> None:
    prompt = fresh_prompt()
    owner, *others = rig.nodes
    async with open_readers() as readers:
        mine, *theirs = await read_at(rig.nodes, readers, prompt)
        began_at = trio.current_time()
        with fault(owner):
            for reader in theirs:
                await reader.wait_over(within=20)
            again = await read_at(others, readers, prompt)
        log = await log_of(rig, mine.generation_id)
        await mine.wait_events(len(mine.events) + 3 * RATE)

        assert [reader.errors for reader in theirs] == [["owner_lost"]] * 2
        assert max(reader.ended_at for reader in theirs) - began_at < JUDGED + SLACK
        assert not mine.is_over
        mine.assert_dense()
        assert log == await log_of(rig, mine.generation_id)
        assert [fence for fence, _ in log] == sorted(fence for fence, _ in log)
        assert log[-1][0] > max(fence for fence, _ in log[:-1])
        assert len({reader.generation_id for reader in again}) == 1
        assert len(await rig.calls(prompt)) == 2


async def test_a_broker_that_stops_delays_readers_elsewhere_and_nobody_else(rig: Rig) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers:
        mine, *theirs = await read_at(rig.nodes, readers, prompt)
        with stopped(rig):
            await trio.sleep(STOPPED)
            before = len(mine.events)
        for reader in theirs:
            await reader.wait_events(before, within=10)
        await trio.sleep(JUDGING)  # they could be wrong about the owner

        assert mine.longest_gap < LONGEST_GAP + FREE
        for reader in (mine, *theirs):
            assert not reader.is_over
            reader.assert_dense()
        assert len(theirs[0].events) > before + RATE
        assert len(await rig.calls(prompt)) == 1


@pytest.mark.parametrize("away", [0.0, 4.0], ids=["at once", "later"])
async def test_a_broker_that_restarts_empty_is_told_again_and_no_second_call_is_made(
    rig: Rig, away: float
) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers:
        mine, theirs = await read_at(rig.nodes[:2], readers, prompt)
        rig.broker.kill()
        await trio.sleep(away)
        await trio.to_thread.run_sync(rig.broker.start)
        await rig.nodes[2].wait_ready()
        late, _ = await readers.join(rig.nodes[2], prompt)
        before = len(mine.events)
        for reader in (theirs, late):
            await reader.wait_events(before, within=10)
        await trio.sleep(JUDGING)

        for reader in (mine, theirs, late):
            assert not reader.is_over
            reader.assert_dense()
        assert len(await rig.calls(prompt)) == 1


async def test_every_key_has_a_time_to_live(rig: Rig) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers, admin(rig) as ask:
        await read_at(rig.nodes, readers, prompt)
        names = await ask("KEYS", "*")
        assert {name.rpartition(b":")[2] for name in names} >= {b"rk", b"m", b"s", b"l", b"ctl"}
        for name in names:
            assert name.startswith(b"tp:")
            assert await ask("PTTL", name) > 0


async def test_what_the_owner_holds_no_more_is_told_as_a_gap_at_other_nodes() -> None:
    prompt = fresh_prompt()
    async with open_own_rig(2, "--max-transcript", "16384") as rig, open_readers() as readers:
        one, two = rig.nodes
        mine, _ = await readers.join(one, prompt, {**REPLAY, "x-sim-rate": "1000"})
        await mine.wait_events(300)
        async with open_client(two.url) as by_id, open_client(two.url) as by_key:
            path = f"/v1/generations/{mine.generation_id}/events"
            await by_id.request("GET", path, headers={"last-event-id": mine.events[4].id or ""})
            assert (await by_id.response_head()).status == 200
            gap = await next_event(by_id)
            first = await next_event(by_id)

            await post(by_key, COMPLETION | {"prompt": prompt}, headers=REPLAY)
            await by_key.response_head()
            told = await next_event(by_key)

    bounds = json.loads(gap.data)
    assert (gap.name, bounds["first"]) == ("gap", 6)
    assert first.id == f"{mine.generation_id}:{bounds['last'] + 1}"
    other_id = by_key.head.headers["x-generation-id"]  # who wants the beginning has a call made
    assert other_id != mine.generation_id
    assert told.id == f"{other_id}:1"


async def test_what_is_always_published_is_read_when_its_owner_is_gone() -> None:
    background = {"model": "tiny", "input": fresh_prompt(), "background": True}
    async with (
        open_own_rig(2, "--cluster-publish", "always") as rig,
        open_readers() as readers,
    ):
        owner, other = rig.nodes
        mine, _ = await readers.join(owner, fresh_prompt())
        async with open_client(owner.url) as client:
            await post(client, background, path=RESPONSES)
            await client.response_head()
            response = json.loads(await client.body())
        await mine.wait_events(RATE)
        owner.kill()

        async with open_client(other.url) as by_id, open_client(other.url) as of_response:
            path = f"/v1/generations/{mine.generation_id}/events"
            await by_id.request("GET", path, headers={"last-event-id": mine.events[9].id or ""})
            assert (await by_id.response_head()).status == 200
            path = f"{RESPONSES}/{response['id']}?stream=true"
            await of_response.request("GET", path)
            assert (await of_response.response_head()).status == 200
            *rest, lost, _done = await read_events(by_id)
            *events, failed = await read_events(of_response)
        shown = json.loads(await fetch(other.url, f"{RESPONSES}/{response['id']}"))

    assert rest == mine.events[10 : 10 + len(rest)]
    assert len(rest) > RATE / 2, "the last half second may be missing, and the first ten"
    assert error_of(lost.data) == "owner_lost"
    assert [json.loads(event.data)["type"] for event in events][:1] == ["response.created"]
    assert len(events) > RATE / 2
    assert b"owner_lost" in failed.data
    assert (shown["id"], shown["status"]) == (response["id"], "failed")


async def test_a_broker_that_is_gone_for_good_leaves_each_node_to_itself() -> None:
    prompt, other = fresh_prompt(), fresh_prompt()
    async with (
        open_own_rig(1, "--cluster-patience", str(PATIENCE)) as rig,
        open_readers() as readers,
    ):
        await trio.to_thread.run_sync(rig.add, "--cluster-down", "refuse")
        mine, theirs = await read_at(rig.nodes, readers, prompt)
        rig.broker.kill()
        await theirs.wait_over(within=PATIENCE + 10)

        answers = [await ask_now(node, other) for node in rig.nodes]

        assert theirs.errors == ["broker_lost"]
        assert not mine.is_over
        assert mine.longest_gap < LONGEST_GAP + FREE
        assert answers == [(200, None), (503, "cluster_unavailable")]
        assert len(await rig.calls(other)) == 1


async def ask_now(node: Node, prompt: str) -> tuple[int, str | None]:
    """The status of a new call that is shared, and the code of its error."""
    async with open_client(node.url) as client:
        await post(client, COMPLETION | {"prompt": prompt, "max_tokens": 3}, headers=REPLAY)
        head = await client.response_head()
        body = await client.body()
    return head.status, None if head.status == 200 else error_of(body)


@asynccontextmanager
async def open_own_rig(nodes: int, *options: str) -> AsyncGenerator[Rig]:
    """A cluster with options of its own."""
    opening = open_rig(nodes, *options)
    rig = await trio.to_thread.run_sync(opening.__enter__)
    try:
        yield rig
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
            await trio.to_thread.run_sync(opening.__exit__, None, None, None)


@asynccontextmanager
async def admin(rig: Rig) -> AsyncGenerator[Any]:
    """Asks the broker, on a connection beside those of the nodes."""
    async with trio.open_nursery() as nursery:
        connection = TCPConnection(TCPLocation("127.0.0.1", rig.broker.port))
        await nursery.start(connection.run)

        async def ask(name: str, *arguments: str | bytes) -> Any:
            return await connection.create_request(name.encode(), *arguments)

        yield ask
        nursery.cancel_scope.cancel(reason="nothing more is asked")


async def log_of(rig: Rig, generation_id: str) -> list[tuple[int, int]]:
    """The fence and the number of each entry in a generation's log, in their order."""
    ref = Ref.parse(generation_id)
    assert ref is not None
    async with admin(rig) as ask:
        entries = await ask("XRANGE", keys_of(ref).log, "-", "+")
    return [tuple(map(int, entry[0].split(b"-"))) for entry in entries]
