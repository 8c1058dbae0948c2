"""Everything can be had of every node: the list, one generation, its timing, what comes next, a
response that goes on in the background. Two proxies on Valkey."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from rich.console import Console

from tests.cluster.pair import Pair, cluster_of, list_cluster, make_deaf, node_of, open_pair
from tests.cluster.servers import Server, run_server
from tests.support.rawhttp import RawClient
from tests.web.service import (
    COMPLETION,
    Service,
    next_event,
    read_events,
    refusal_of,
    wait_until,
)
from tests.web.sockets import open_socket
from trioproxy.cluster import Known, Lease, Ref
from trioproxy.config import Gateway, TenantEntry
from trioproxy.gateway import hash_key
from trioproxy.testing.upstream import UpstreamCall, sse
from trioproxy.top import top

SHARED = {"x-fanout": "replay"}
TEXTS = [b'{"choices":[{"text":"%d"}]}' % number for number in range(6)]

KEYS = {name: {"authorization": f"Bearer {name}"} for name in ("alice", "bob", "root")}
TENANTS = Gateway(
    tenants=tuple(
        TenantEntry(name=name, keys=(hash_key(name.encode()),), admin=name == "root")
        for name in KEYS
    )
)


@pytest.fixture(scope="module")
def valkey() -> Generator[Server]:
    with run_server("valkey") as server:
        yield server


@asynccontextmanager
async def running(
    pair: Pair, *data: bytes, headers: dict[str, str] = SHARED
) -> AsyncGenerator[tuple[str, UpstreamCall]]:
    """A generation that node one runs and one client reads there, of which so much has come."""
    async with pair.one.ask(headers=headers) as client:
        call = await pair.upstream.next_call()
        await call.start()
        await call.write(sse(*data))
        generation_id = (await client.response_head()).headers["x-generation-id"]
        for _ in data:
            await next_event(client)
        yield generation_id, call


async def next_row(client: RawClient, **expected: Any) -> dict[str, Any]:
    return await next_told(client, "generation", expected)


async def next_totals(client: RawClient, **expected: Any) -> dict[str, Any]:
    return await next_told(client, "totals", expected)


async def next_told(client: RawClient, name: str, expected: dict[str, Any]) -> dict[str, Any]:
    """The next event of this name with these values."""
    while True:
        event = await next_event(client)
        told = json.loads(event.data)
        if event.name == name and told | expected == told:
            return told


async def data_of(client: RawClient) -> list[bytes]:
    return [event.data for event in await read_events(client)]


# -- the list --------------------------------------------------------------------------------------


async def test_each_node_lists_what_all_run(valkey: Server) -> None:
    async with (
        open_pair(valkey) as pair,
        running(pair, *TEXTS[:2]) as (first, _),
        pair.two.ask(COMPLETION | {"prompt": "The sea"}) as client,
    ):
        call = await pair.upstream.next_call()
        await call.start()
        second = (await client.response_head()).headers["x-generation-id"]
        listings = [await list_cluster(service) for service in (pair.one, pair.two)]
        plain = (await pair.two.http.get("/v1/generations")).json()

    nodes = [node_of(pair.one), node_of(pair.two)]
    for node, listing in zip(nodes, listings, strict=True):
        assert [(row["id"], row["node"]) for row in listing["data"]] == [
            (first, nodes[0]),
            (second, nodes[1]),
        ]
        assert (listing["node"], sorted(listing["nodes"])) == (node, sorted(nodes))
        assert listing["missing"] == listing["truncated"] == []
    assert listings[0]["data"][0]["events"] == 2
    assert ([row["id"] for row in plain["data"]], plain["node"]) == ([second], nodes[1])


async def test_what_many_nodes_read_is_listed_once_with_all_its_readers(valkey: Server) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:2]) as (generation_id, call):
        async with pair.two.ask(headers=SHARED) as one, pair.two.ask(headers=SHARED) as other:
            for client in (one, other):
                await client.response_head()
                for _ in TEXTS[:2]:
                    await next_event(client)
            for service in (pair.one, pair.two):
                (row,) = (await list_cluster(service))["data"]
                assert (row["id"], row["node"]) == (generation_id, node_of(pair.one))
                assert row["subscribers"] == 3
            await call.finish(sse(b"[DONE]"))
            await one.body()
            await other.body()
        (row,) = (await list_cluster(pair.two))["data"]

    assert (row["state"], row["node"]) == ("ended", node_of(pair.one))


async def test_who_does_not_answer_is_told(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:1]):
        make_deaf(pair.one, monkeypatch)

        listing = await list_cluster(pair.two)

    assert listing["data"] == []
    assert node_of(pair.one) in listing["missing"]


async def test_a_tenant_lists_its_own_and_an_admin_all(valkey: Server) -> None:
    async with (
        open_pair(valkey, gateway=TENANTS, headers=KEYS["root"]) as pair,
        running(pair, *TEXTS[:1], headers=KEYS["alice"]) as (generation_id, _),
    ):
        listed = {
            name: [row["id"] for row in (await list_cluster(pair.two, key))["data"]]
            for name, key in KEYS.items()
        }
        shown = {
            name: (await pair.two.http.get(f"/v1/generations/{generation_id}{path}", headers=key))
            for name, key in KEYS.items()
            for path in ("", "/timing")
        }

    assert listed == {"alice": [generation_id], "bob": [], "root": [generation_id]}
    assert {name: answer.status_code for name, answer in shown.items()} == {
        "alice": 200,
        "bob": 404,
        "root": 200,
    }


@pytest.mark.parametrize("scope", ["", "world"])
async def test_no_other_scope_is_known(valkey: Server, scope: str) -> None:
    async with open_pair(valkey) as pair:
        answer = await pair.one.http.get(f"/v1/generations?scope={scope}")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "scope"


async def test_the_board_tells_what_changes_at_all_nodes(valkey: Server) -> None:
    board = "/v1/generations/events?scope=cluster"
    async with open_pair(valkey) as pair, pair.two.get(board) as client:
        assert (await client.response_head()).status == 200
        async with running(pair, *TEXTS[:2]) as (generation_id, call):
            begun = await next_row(client, id=generation_id, events=2)
            await call.finish(sse(b"[DONE]"))
            ended = await next_row(client, id=generation_id, state="ended")
        totals = await next_totals(client, running=0, missing=[])

    assert begun["node"] == ended["node"] == node_of(pair.one)
    assert (begun["subscribers"], totals["subscribers"]) == (1, 0)


async def test_top_shows_all_nodes(valkey: Server) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:2]):
        printed = [Console(width=120, record=True, file=io.StringIO()) for _ in range(2)]
        for console, wide in zip(printed, (True, False), strict=True):
            await top(pair.two.url, headers={}, once=True, wide=wide, console=console)
        everything, here = [console.export_text() for console in printed]

    assert "1 running" in everything
    assert node_of(pair.one)[:8] in everything
    assert "0 running" in here
    assert "node" not in here


# -- one generation --------------------------------------------------------------------------------


async def test_another_node_shows_it_as_the_node_does_that_runs_it(valkey: Server) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:4]) as (generation_id, _):
        at_home = await pair.one.describe(generation_id)
        elsewhere = await pair.two.describe(generation_id)
        wide = (await pair.one.http.get(f"/v1/generations/{generation_id}?scope=cluster")).json()
        plain = (await pair.two.http.get("/v1/generations")).json()

    assert elsewhere == wide == at_home | {"node": node_of(pair.one)}
    assert elsewhere["usage"]["completion_tokens"] == 4
    assert plain["data"] == []  # to be asked of it costs no copy


async def test_another_node_tells_its_timing_as_the_node_does_that_runs_it(valkey: Server) -> None:
    async with (
        open_pair(valkey) as pair,
        running(pair, *TEXTS[:4]) as (generation_id, call),
        pair.two.get(f"/v1/generations/{generation_id}/events") as reader,
    ):
        await reader.response_head()
        await next_event(reader)
        await call.finish(sse(b"[DONE]"))
        await pair.one.outcome_of(generation_id)
        path = f"/v1/generations/{generation_id}/timing"
        at_home, elsewhere = [
            (await service.http.get(path)).json() for service in (pair.one, pair.two)
        ]

    assert elsewhere["timeline"] == at_home["timeline"]
    assert elsewhere["connect_seconds"] == at_home["connect_seconds"] is not None


@pytest.mark.parametrize("mode", ["replay", "live"])
async def test_who_comes_by_id_is_as_much_the_last_as_any_other(valkey: Server, mode: str) -> None:
    async with open_pair(valkey) as pair, AsyncExitStack() as stack:
        async with running(pair, *TEXTS[:2]) as (generation_id, call):
            reading = pair.two.get(f"/v1/generations/{generation_id}/events?mode={mode}")
            client = await stack.enter_async_context(reading)
            await client.response_head()
            await call.write(sse(TEXTS[2]))
            await next_event(client)
        await pair.one.wait_subscribers(0)
        left_at = trio.current_time()
        await stack.aclose()
        await call.wait_departure()

    assert trio.current_time() - left_at < 0.5


async def test_who_only_looks_keeps_nothing_going(valkey: Server) -> None:
    async with open_pair(valkey) as pair:
        async with in_background(pair, **{"x-linger": "0.3"}) as call:
            looked = [await pair.two.http.get(f"{RESPONSES}/resp_1") for _ in range(2)]
        looked_at = trio.current_time()
        await call.wait_departure()

    assert [answer.status_code for answer in looked] == [200, 200]
    assert trio.current_time() - looked_at < 1


@pytest.mark.parametrize("path", ["", "/timing", "/events"])
@pytest.mark.parametrize("generation_id", [f"gen_{'0' * 32}_{'0' * 16}", f"gen_{'0' * 32}", "x"])
async def test_what_no_node_has_is_not_found(valkey: Server, generation_id: str, path: str) -> None:
    async with open_pair(valkey) as pair:
        answer = await pair.two.http.get(f"/v1/generations/{generation_id}{path}")

    assert answer.status_code == 404


async def test_a_stop_elsewhere_leaves_one_that_has_ended_as_it_is(valkey: Server) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:4]) as (generation_id, call):
        await call.finish(sse(b"[DONE]"))
        await pair.one.outcome_of(generation_id)

        stopped = (await pair.two.http.delete(f"/v1/generations/{generation_id}")).json()

    assert stopped["outcome"] == {"kind": "completed", "reason": None}


async def test_what_a_node_has_forgotten_of_anothers_is_still_to_be_had(valkey: Server) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:2]) as (generation_id, call):
        events = f"/v1/generations/{generation_id}/events"
        async with pair.two.get(events) as client:
            await client.response_head()
            await call.finish(sse(b"[DONE]"))
            await data_of(client)
        await pair.two.wait_subscribers(0)
        hub = pair.two.proxy.hub
        limits = hub.limits
        hub.configure(replace(limits, retention=0))
        assert not hub.retained
        hub.configure(limits)

        shown = await pair.two.describe(generation_id)
        async with pair.two.get(events) as client:
            assert (await client.response_head()).status == 200
            assert await data_of(client) == [*TEXTS[:2], b"[DONE]"]

    assert shown["node"] == node_of(pair.one)


async def test_what_is_complete_but_for_its_head_is_streamed(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:2]) as (_, call):
        has_finished = lose_head(pair.one, monkeypatch)
        async with pair.two.ask(headers=SHARED) as client:
            await pair.two.wait_subscribers(1)
            await call.finish(sse(b"[DONE]"))
            await pair.one.proxy.hub.wait_idle()
            has_finished.set()

            assert (await client.response_head()).status == 200
            assert await data_of(client) == [*TEXTS[:2], b"[DONE]"]


async def test_a_whole_answer_without_its_head_is_lost(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"prompt": "The river", "stream": False}
    async with open_pair(valkey) as pair, pair.one.ask(whole, headers=SHARED) as one:
        call = await pair.upstream.next_call()
        await call.start(200, ("content-type", "application/json"))
        await call.write(b'{"a"')
        has_finished = lose_head(pair.one, monkeypatch)
        async with pair.two.ask(whole, headers=SHARED) as two:
            await pair.two.wait_subscribers(1)
            await call.finish(b":1}")
            assert (await one.response_head()).status == 200
            assert await one.body() == b'{"a":1}'
            has_finished.set()

            assert (await two.response_head()).status == 503
            assert json.loads(await two.body())["error"]["code"] == "owner_lost"


def lose_head(service: Service, monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Have a node tell others no head. Whoever waits for that is let go by the event."""
    (broker,) = cluster_of(service).node.brokers
    is_over = trio.Event()

    async def tell_no_head(lease: Lease, head: bytes) -> None:
        await is_over.wait()

    monkeypatch.setattr(broker, "open", tell_no_head)
    return is_over


# -- from now on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [False, True])
async def test_live_is_from_now_on_at_every_node(valkey: Server, is_known: bool) -> None:
    async with (
        open_pair(valkey) as pair,
        running(pair, *TEXTS[:4]) as (generation_id, call),
        AsyncExitStack() as stack,
    ):
        events = f"/v1/generations/{generation_id}/events"
        if is_known:
            client = await stack.enter_async_context(pair.two.get(events))
            await client.response_head()
            await next_event(client)
        async with pair.two.get(f"{events}?mode=live") as client:
            assert (await client.response_head()).status == 200
            await call.finish(sse(*TEXTS[4:], b"[DONE]"))
            assert await data_of(client) == [*TEXTS[4:], b"[DONE]"]


async def test_live_is_from_now_on_over_a_websocket(valkey: Server) -> None:
    async with (
        open_pair(valkey) as pair,
        running(pair, *TEXTS[:4]) as (generation_id, call),
        open_socket(pair.two) as many,
    ):
        answer = await many.ask(type="subscribe", generation=generation_id, mode="live")
        assert answer["type"] == "subscribed"
        path = f"/v1/generations/{generation_id}/ws?mode=live"
        async with open_socket(pair.two, path) as only:
            await pair.two.wait_subscribers(2)
            await call.finish(sse(*TEXTS[4:], b"[DONE]"))
            heard = [await many.hear_to_end(), await only.hear_to_end()]

    for messages in heard:
        assert [message["seq"] for message in messages if message["type"] == "event"] == [5, 6, 7]


async def test_live_of_what_has_ended_is_its_end(valkey: Server) -> None:
    async with open_pair(valkey) as pair, running(pair, *TEXTS[:4]) as (generation_id, call):
        await call.finish(sse(b"[DONE]"))
        await pair.one.outcome_of(generation_id)

        answer = await pair.two.http.get(f"/v1/generations/{generation_id}/events?mode=live")

    assert answer.status_code == 204


# -- responses in the background -------------------------------------------------------------------

RESPONSES = "/v1/responses"
IN_BACKGROUND: dict[str, Any] = {"input": "The river", "background": True}
CREATED = b'{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}'
DELTAS = [b'{"type":"response.output_text.delta","delta":"%d"}' % number for number in range(3)]
COMPLETED = b'{"type":"response.completed","response":{"id":"resp_1","status":"completed"}}'


@asynccontextmanager
async def in_background(pair: Pair, **headers: str) -> AsyncGenerator[UpstreamCall]:
    """A response that goes on at node one, of which the engine has told all deltas."""
    async with pair.one.ask(IN_BACKGROUND, path=RESPONSES, headers=headers) as client:
        call = await pair.upstream.next_call()
        await call.start()
        await call.write(sse(CREATED, *DELTAS))
        assert (await client.response_head()).status == 200
        await client.body()
    await pair.one.wait_events(4)
    yield call


async def test_a_response_in_the_background_is_looked_at_from_any_node(valkey: Server) -> None:
    async with open_pair(valkey) as pair, in_background(pair) as call:
        before = (await pair.two.http.get(f"{RESPONSES}/resp_1")).json()
        await call.finish(sse(COMPLETED))
        (row,) = (await list_cluster(pair.one))["data"]
        await pair.one.outcome_of(row["id"])
        after = (await pair.two.http.get(f"{RESPONSES}/resp_1")).json()

    assert (before["status"], after["status"]) == ("in_progress", "completed")


async def test_one_that_ends_while_it_is_asked_for_is_had_as_it_ended(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pair(valkey) as pair, in_background(pair) as call:
        node = cluster_of(pair.two).node
        look = node.look

        async def look_when_it_has_ended(ref: Ref) -> Known:
            await call.finish(sse(COMPLETED))
            await node.hub.wait_idle()
            return await look(ref)

        async with pair.two.get(f"{RESPONSES}/resp_1?stream=true") as reader:
            await reader.response_head()
            monkeypatch.setattr(node, "look", look_when_it_has_ended)
            after = (await pair.two.http.get(f"{RESPONSES}/resp_1")).json()

    assert after["status"] == "completed"


@pytest.mark.parametrize("has_ended", [False, True])
async def test_it_is_read_on_from_any_node(valkey: Server, has_ended: bool) -> None:
    async with open_pair(valkey) as pair, in_background(pair) as call:
        if has_ended:
            await call.finish(sse(COMPLETED))
        path = f"{RESPONSES}/resp_1?stream=true&starting_after=1"
        async with pair.two.get(path) as reader:
            assert (await reader.response_head()).status == 200
            if not has_ended:
                await call.finish(sse(COMPLETED))
            events = [json.loads(data) for data in await data_of(reader)]

    assert [event["sequence_number"] for event in events] == [2, 3, 4]


async def test_it_is_cancelled_from_any_node(valkey: Server) -> None:
    async with open_pair(valkey) as pair, in_background(pair) as call:
        answer = await pair.two.http.post(f"{RESPONSES}/resp_1/cancel")
        await call.wait_departure()

    assert answer.json()["status"] == "cancelled"


async def test_it_is_its_owners_at_every_node(valkey: Server) -> None:
    async with (
        open_pair(valkey, gateway=TENANTS, headers=KEYS["root"]) as pair,
        in_background(pair, **KEYS["alice"]),
    ):
        answers = {
            name: await pair.two.http.get(f"{RESPONSES}/resp_1", headers=key)
            for name, key in KEYS.items()
        }

    assert refusal_of(answers["bob"])[0] == 404
    assert answers["alice"].json() == answers["root"].json()
    assert answers["alice"].json()["id"] == "resp_1"


# -- of a node that does not answer any more, where all is published -------------------------------


async def wait_published(service: Service, *states: str, last: int) -> Ref:
    """Wait until other nodes can read so much of the response."""
    node = cluster_of(service).node

    async def is_there() -> bool:
        ref = await node.resolve("resp_1")
        known = None if ref is None else await node.look(ref)
        return known is not None and known.state in states and known.last == last

    await wait_until(is_there)
    ref = await node.resolve("resp_1")
    assert ref is not None
    return ref


async def test_a_response_is_found_whose_node_does_not_answer(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pair(valkey, cluster_publish="always") as pair, in_background(pair):
        await wait_published(pair.two, "running", last=4)
        make_deaf(pair.one, monkeypatch)

        shown = await pair.two.http.get(f"{RESPONSES}/resp_1")
        async with pair.two.get(f"{RESPONSES}/resp_1?stream=true&starting_after=1") as reader:
            assert (await reader.response_head()).status == 200
            numbers = [json.loads((await next_event(reader)).data)["sequence_number"] for _ in "23"]

    assert shown.json() == {"id": "resp_1", "status": "in_progress"}
    assert numbers == [2, 3]


@pytest.mark.parametrize("path", ["/v1/responses/resp_1", "/v1/generations/{0}"])
async def test_what_has_ended_is_shown_to_its_end_when_its_node_does_not_answer(
    valkey: Server, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with open_pair(valkey, cluster_publish="always") as pair:
        async with in_background(pair) as call:
            await call.finish(sse(COMPLETED))
        ref = await wait_published(pair.two, "ended", last=5)
        make_deaf(pair.one, monkeypatch)

        shown = (await pair.two.http.get(path.format(ref.public_id))).json()

    assert "completed" in (shown["status"] if "status" in shown else shown["outcome"]["kind"])


async def test_it_is_its_owners_whose_node_does_not_answer(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_pair(valkey, gateway=TENANTS, headers=KEYS["root"], cluster_publish="always") as pair,
        in_background(pair, **KEYS["alice"]),
    ):
        ref = await wait_published(pair.two, "running", last=4)
        make_deaf(pair.one, monkeypatch)
        answers = {
            name: await pair.two.http.get(f"{RESPONSES}/resp_1", headers=KEYS[name])
            for name in ("bob", "alice", "root")
        }

    assert refusal_of(answers["bob"])[0] == 404
    assert ref.public_id not in answers["bob"].text
    assert answers["alice"].json() == answers["root"].json()
    assert answers["alice"].json()["id"] == "resp_1"
