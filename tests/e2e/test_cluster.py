"""Three nodes, as processes of their own: one call at the engine, whichever node is asked."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
import trio

from tests.e2e.cluster_rig import Rig, fresh_prompt, open_readers, open_rig
from tests.e2e.streams import COMPLETION, COMPLETIONS, REPLAY, ask, post, read_events
from tests.support.rawhttp import open_client, post_stream
from tests.support.websocket import HANDSHAKE, TEXT, Peer

READERS = 90
CLOSED_WITHIN = 0.5
BUSY = 1.0
"""Seconds that a busy machine may take besides."""


@pytest.fixture(scope="module")
def three() -> Iterator[Rig]:
    with open_rig(3) as rig:
        yield rig


@pytest.fixture
async def rig(three: Rig) -> AsyncIterator[Rig]:
    """Three nodes that are well. A test must leave them as they were."""
    yield three
    await three.wait_at_rest()


@pytest.mark.parametrize("headers", [REPLAY, {"x-generation-key": "story"}], ids=["replay", "key"])
async def test_ninety_readers_at_three_nodes_cost_one_call_and_read_the_same_bytes(
    rig: Rig, headers: dict[str, str]
) -> None:
    question = COMPLETION | {"prompt": (prompt := fresh_prompt()), "max_tokens": 50}
    thinking = headers | {"x-sim-ttft": "3"}  # until all have come
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                ask(rig.nodes[number % 3].url, question, headers=thinking)
            )
            for number in range(READERS)
        ]
        for client in clients:
            assert (await client.response_head()).status == 200
        bodies = [await client.body() for client in clients]

    assert all(client.ended_properly for client in clients)
    assert len(await rig.calls(prompt)) == 1
    assert len({client.head.headers["x-generation-id"] for client in clients}) == 1
    assert len(set(bodies)) == 1
    assert bodies[0].count(b"\nid: ") >= 50
    assert b"data: [DONE]\n" in bodies[0]


@pytest.mark.parametrize("last", [0, 1], ids=["at the owner", "elsewhere"])
async def test_the_last_reader_of_all_nodes_ends_the_call(rig: Rig, last: int) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers:
        joined = [await readers.join(node, prompt) for node in rig.nodes]
        for reader, _ in joined:
            await reader.wait_events(20)
        leave_last = joined.pop(last)[1]
        for _, leave in joined:
            leave()
        await joined[0][0].wait_gone()
        assert [call.outcome for call in await rig.calls(prompt)] == ["active"]

        left_at = time.time()
        leave_last()
        ended_at = await rig.wait_ended(prompt, within=10)

    assert ended_at - left_at < CLOSED_WITHIN + BUSY


async def test_who_comes_late_at_another_node_reads_all_of_it(rig: Rig) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers:
        first, _ = await readers.join(rig.nodes[0], prompt, max_tokens=150)
        await first.wait_events(100)
        late, _ = await readers.join(rig.nodes[1], prompt, max_tokens=150)
        await first.wait_over(within=20)
        await late.wait_over(within=20)

    assert first.events == late.events
    assert len(await rig.calls(prompt)) == 1


async def test_who_lost_its_node_reads_on_at_another(rig: Rig) -> None:
    prompt = fresh_prompt()
    question = COMPLETION | {"prompt": prompt, "max_tokens": 150}
    async with open_readers() as readers:
        whole, _ = await readers.join(rig.nodes[0], prompt, max_tokens=150)
        lost, leave = await readers.join(rig.nodes[1], prompt, max_tokens=150)
        await lost.wait_events(30)
        leave()
        await lost.wait_gone()
        last_id = lost.events[-1].id or ""
        resumed = {"last-event-id": last_id}
        async with (
            post_stream(rig.nodes[2].url, COMPLETIONS, question, REPLAY | resumed) as again,
            open_client(rig.nodes[2].url) as by_id,
        ):
            path = f"/v1/generations/{lost.generation_id}/events"
            await by_id.request("GET", path, headers=resumed)
            assert (await by_id.response_head()).status == 200
            rests = [await read_events(client) for client in (again, by_id)]
        await whole.wait_over(within=20)

    assert rests == [whole.events[len(lost.events) :]] * 2
    assert lost.events == whole.events[: len(lost.events)]
    assert len(await rig.calls(prompt)) == 1


async def test_what_has_ended_is_read_at_another_node(rig: Rig) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers:
        whole, _ = await readers.join(rig.nodes[0], prompt, max_tokens=20)
        await whole.wait_over(within=20)
    for node in rig.nodes[1:]:
        async with open_client(node.url) as client:
            await client.request("GET", f"/v1/generations/{whole.generation_id}/events")
            await client.response_head()
            assert await read_events(client) == whole.events


async def test_a_stop_at_another_node_ends_it_for_everyone(rig: Rig) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers, open_client(rig.nodes[2].url) as stopper:
        told = [(await readers.join(node, prompt))[0] for node in rig.nodes]
        for reader in told:
            await reader.wait_events(10)

        await stopper.request("DELETE", f"/v1/generations/{told[0].generation_id}")
        assert (await stopper.response_head()).status == 200
        await stopper.body()

        for reader in told:
            await reader.wait_over(within=10)
        await rig.wait_ended(prompt, within=10)

    assert [reader.errors for reader in told] == [["cancelled"]] * 3


async def test_a_websocket_reads_what_another_node_runs(rig: Rig) -> None:
    prompt = fresh_prompt()
    async with open_readers() as readers, open_client(rig.nodes[1].url) as client:
        whole, _ = await readers.join(rig.nodes[0], prompt, max_tokens=60)
        await whole.wait_events(5)
        path = f"/v1/generations/{whole.generation_id}/ws"
        await client.request("GET", path, headers=HANDSHAKE)
        await client.response_head()
        peer, messages = Peer(client), list[dict[str, object]]()
        while not messages or messages[-1]["type"] != "end":
            opcode, payload = await peer.next_frame()
            if opcode == TEXT:
                messages.append(json.loads(payload))
        await whole.wait_over(within=20)

    events = [message for message in messages if message["type"] == "event"]
    assert [message["seq"] for message in events] == whole.seqs
    assert [str(message["data"]).encode() for message in events] == [
        event.data for event in whole.events if event.id is not None
    ]


async def test_a_whole_answer_is_shared_too(rig: Rig) -> None:
    prompt = fresh_prompt()
    question = {"model": "tiny", "prompt": prompt, "max_tokens": 50}
    answers: list[bytes] = []

    async def ask_whole(url: str) -> None:
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:
            response = await client.post(f"{url}{COMPLETIONS}", json=question, headers=REPLAY)
            assert response.status_code == 200
            answers.append(response.content)

    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(ask_whole, rig.nodes[number % 3].url)

    assert len(answers) == 9
    assert len(set(answers)) == 1
    assert len(await rig.calls(prompt)) == 1


async def test_a_refusal_of_the_engine_is_told_at_every_node(rig: Rig) -> None:
    question = COMPLETION | {"prompt": (prompt := fresh_prompt())}
    trouble = REPLAY | {"x-sim-status": "429", "x-sim-ttft": "1"}
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_client(node.url)) for node in rig.nodes]
        for client in clients:
            await post(client, question, headers=trouble)
        heads = [await client.response_head() for client in clients]
        bodies = [await client.body() for client in clients]

    assert [head.status for head in heads] == [429] * 3
    assert len(set(bodies)) == 1
    assert len(await rig.calls(prompt)) == 1
