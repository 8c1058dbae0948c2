"""Generations over a WebSocket: read, joined, resumed, stopped, several over one, each to its
end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.support.websocket import HANDSHAKE
from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    NOBODY_THERE,
    ScriptedService,
    next_event,
    open_scripted,
    open_service,
    open_simulated,
    refusal_of,
)
from tests.web.sockets import SUBPROTOCOL, Socket, open_socket, shake_hands
from trioproxy.simulator import generate_text
from trioproxy.testing.upstream import UpstreamCall, sse

GENERATE: dict[str, Any] = {
    "type": "generate",
    "path": COMPLETIONS,
    "body": {"prompt": "The river"},
}
TOKENS = [b'{"choices":[{"text":"%d"}]}' % number for number in range(6)]


async def begin(service: ScriptedService, socket: Socket, *data: bytes) -> tuple[UpstreamCall, str]:
    """A generation that the socket started, of which it has read so much."""
    await socket.say(**GENERATE)
    call = await service.upstream.next_call()
    await call.start()
    if data:
        await call.write(sse(*data))
    generation_id = (await socket.hear())["generation"]
    assert [(await socket.hear())["seq"] for _ in data] == list(range(1, len(data) + 1))
    return call, generation_id


def seqs(heard: list[dict[str, Any]]) -> list[int]:
    return [message["seq"] for message in heard if message["type"] == "event"]


async def test_a_generation_is_asked_for_and_read_to_its_end() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        started = await socket.ask(**GENERATE, ref="mine")
        *events, end = await socket.hear_to_end()

    generation_id = started["generation"]
    assert started == {
        "type": "generation",
        "ref": "mine",
        "generation": generation_id,
        "cache": "miss",
    }
    assert [event["seq"] for event in events] == list(range(1, 11))
    assert {event["generation"] for event in events} == {generation_id}
    chunks = [json.loads(event["data"]) for event in events if event["data"] != "[DONE]"]
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert text == "".join(generate_text("The river", 8))
    assert end == {
        "type": "end",
        "generation": generation_id,
        "outcome": {"kind": "completed", "reason": None},
        "error": None,
    }


async def test_the_payload_is_what_a_reader_of_sse_gets() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        generation_id = (await socket.ask(**GENERATE))["generation"]
        *events, _ = await socket.hear_to_end()
        async with service.get(f"/v1/generations/{generation_id}/events") as reader:
            await reader.response_head()
            for event in events:
                sent = await next_event(reader)
                assert (sent.id, sent.data) == (
                    f"{generation_id}:{event['seq']}",
                    event["data"].encode(),
                )


async def test_several_are_read_over_one_socket_each_dense_and_to_its_own_end() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        for number in range(5):
            await socket.say(**GENERATE | {"body": {"prompt": f"{number}"}}, ref=number)
        heard: list[dict[str, Any]] = []
        while sum(message["type"] == "end" for message in heard) < 5:
            heard.append(await socket.hear())

        assert service.engine.stats.calls == 5
        await service.wait_released()
    ids = {message["ref"]: message["generation"] for message in heard if "ref" in message}
    assert len(ids) == 5
    for generation_id in ids.values():
        own = [message for message in heard if message.get("generation") == generation_id]
        assert seqs(own) == list(range(1, 11))
        assert [message["type"] for message in own] == ["generation", *["event"] * 10, "end"]


async def test_two_sockets_share_one_call_by_key() -> None:
    shared = GENERATE | {"key": "k"}
    async with (
        open_scripted() as service,
        open_socket(service) as one,
        open_socket(service) as other,
    ):
        first = await one.ask(**shared)
        call = await service.upstream.next_call()
        await call.start()
        await call.write(sse(*TOKENS[:3]))
        await service.wait_events(3)
        second = await other.ask(**shared)
        await call.finish(sse(*TOKENS[3:], b"[DONE]"))
        heard, same = await one.hear_to_end(), await other.hear_to_end()

    assert (first["cache"], second["cache"]) == ("miss", "join")
    assert first["generation"] == second["generation"]
    assert heard == same
    assert service.upstream.calls == 1


@pytest.mark.parametrize(
    ("subscribe", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"after": 0}, [1, 2, 3, 4]),
        ({"after": 2}, [3, 4]),
        ({"after": 3}, [4]),
        ({"mode": "live"}, [4]),
    ],
)
async def test_one_that_runs_is_read_from_where_the_client_says(
    subscribe: dict[str, Any], expected: list[int]
) -> None:
    async with (
        open_scripted() as service,
        open_socket(service) as socket,
        open_socket(service) as other,
    ):
        call, generation_id = await begin(service, socket, *TOKENS[:3])
        answer = await other.ask(type="subscribe", generation=generation_id, ref=7, **subscribe)
        await service.wait_subscribers(2)
        await call.finish(sse(b"[DONE]"))
        heard = await other.hear_to_end()

    assert answer == {"type": "subscribed", "ref": 7, "generation": generation_id}
    assert expected == seqs(heard)


async def test_a_dropped_socket_is_taken_up_again_without_loss() -> None:
    async with open_scripted() as service:
        async with open_socket(service) as socket:
            await socket.say(**GENERATE, linger=30)
            call = await service.upstream.next_call()
            await call.start()
            await call.write(sse(*TOKENS[:3]))
            generation_id = (await socket.hear())["generation"]
            read = [(await socket.hear())["seq"] for _ in range(2)]
        await service.wait_subscribers(0)
        await call.finish(sse(*TOKENS[3:], b"[DONE]"))
        async with open_socket(service) as again:
            await again.ask(type="subscribe", generation=generation_id, after=read[-1])
            heard = await again.hear_to_end()

    assert read + seqs(heard) == [1, 2, 3, 4, 5, 6, 7]


async def test_who_unsubscribes_hears_no_more_and_the_last_one_ends_the_call() -> None:
    async with open_scripted() as service, open_socket(service) as socket:
        call, generation_id = await begin(service, socket, TOKENS[0])
        answer = await socket.ask(type="unsubscribe", generation=generation_id)
        await call.wait_departure()
        await service.wait_released()
        pong = await socket.ask(type="ping", ref="alive")

    assert answer == {"type": "unsubscribed", "generation": generation_id}
    assert pong == {"type": "pong", "ref": "alive"}


async def test_what_was_unsubscribed_can_be_subscribed_again_at_once() -> None:
    async with open_scripted() as service, open_socket(service) as socket:
        await socket.say(**GENERATE, linger=30)
        call = await service.upstream.next_call()
        await call.start()
        generation_id = (await socket.hear())["generation"]
        await socket.say(type="unsubscribe", generation=generation_id)
        await socket.say(type="subscribe", generation=generation_id)
        assert [(await socket.hear())["type"] for _ in range(2)] == ["unsubscribed", "subscribed"]
        await call.finish(sse(*TOKENS, b"[DONE]"))
        heard = await socket.hear_to_end()

    assert seqs(heard) == [1, 2, 3, 4, 5, 6, 7]


async def test_stopping_is_for_everyone_and_leaving_is_not() -> None:
    async with (
        open_scripted() as service,
        open_socket(service) as socket,
        open_socket(service) as other,
    ):
        call, generation_id = await begin(service, socket, TOKENS[0])
        await other.ask(type="subscribe", generation=generation_id)
        await socket.say(type="cancel", generation=generation_id, ref="stop")
        await call.wait_departure()
        heard, elsewhere = await socket.hear_to_end(), await other.hear_to_end()
        if len(heard) == 1:  # the end came before the answer
            heard.append(await socket.hear())

    outcome = {"kind": "cancelled", "reason": "stopped"}
    answers = {message["type"]: message for message in heard}
    assert answers["cancelled"] == {
        "type": "cancelled",
        "ref": "stop",
        "generation": generation_id,
        "outcome": outcome,
    }
    for end in (answers["end"], elsewhere[-1]):
        assert end["outcome"] == outcome
        assert end["error"]["code"] == "cancelled"


async def test_the_last_socket_to_leave_ends_the_call() -> None:
    async with open_scripted() as service:
        async with open_socket(service) as socket:
            call, _ = await begin(service, socket, TOKENS[0])
        await call.wait_departure()
        await service.wait_released()


async def test_a_socket_that_is_cut_leaves_at_once() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        await socket.say(**GENERATE)
        await socket.hear()
        socket.stream.socket.close()  # without a word
        await service.wait_released()


async def test_a_failure_of_the_upstream_is_told_with_the_end() -> None:
    async with open_service(NOBODY_THERE) as service, open_socket(service) as socket:
        await socket.ask(**GENERATE)
        (end,) = await socket.hear_to_end()

    assert end["outcome"] == {"kind": "failed", "reason": "unreachable"}
    assert (end["error"]["status"], end["error"]["code"]) == (502, "upstream_unreachable")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "generate", "path": "/v1/models", "body": {}}, "bad_request"),
        ({"type": "generate", "path": COMPLETIONS, "body": []}, "bad_request"),
        ({"type": "generate", "path": COMPLETIONS, "body": {"stream": False}}, "bad_request"),
        ({"type": "generate", "path": COMPLETIONS}, "bad_request"),
        (GENERATE | {"linger": -1}, "bad_request"),
        (GENERATE | {"mode": "all"}, "bad_request"),
        (GENERATE | {"extra": 1}, "bad_request"),
        ({"type": "dance"}, "bad_request"),
        ({}, "bad_request"),
        ({"type": "subscribe", "generation": "gen_0"}, "generation_not_found"),
        ({"type": "unsubscribe", "generation": "gen_0"}, "generation_not_found"),
        ({"type": "cancel", "generation": "gen_0"}, "generation_not_found"),
    ],
    ids=str,
)
async def test_what_cannot_be_had_is_refused_and_the_socket_goes_on(
    message: dict[str, Any], code: str
) -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        refused = await socket.ask(**message, ref="x")
        await socket.ask(**GENERATE)
        heard = await socket.hear_to_end()

    assert (refused["type"], refused["ref"], refused["error"]["code"]) == ("error", "x", code)
    assert len(seqs(heard)) == 10


async def test_a_generation_is_read_once_over_a_socket_and_belongs_to_its_tenant() -> None:
    async with (
        open_scripted() as service,
        open_socket(service) as socket,
        open_socket(service, headers={"authorization": "Bearer other"}) as stranger,
    ):
        _, generation_id = await begin(service, socket, TOKENS[0])
        twice = await socket.ask(type="subscribe", generation=generation_id)
        ahead = await stranger.ask(type="subscribe", generation=generation_id)

        assert len(await service.list_generations()) == 1
    assert twice["error"]["code"] == "bad_request"
    assert ahead["error"]["code"] == "generation_not_found"


async def test_too_many_generations_are_refused_on_the_socket() -> None:
    async with (
        open_scripted(max_generations=1) as service,
        open_socket(service) as socket,
    ):
        await begin(service, socket)
        refused = await socket.ask(**GENERATE)

    assert (refused["error"]["status"], refused["error"]["code"]) == (429, "too_many_generations")


async def test_a_gap_is_told() -> None:
    async with open_scripted(max_transcript=1_000) as service, open_socket(service) as socket:
        call, generation_id = await begin(service, socket, TOKENS[0])
        for token in TOKENS[1:]:
            await call.write(sse(token))
            assert (await socket.hear())["type"] == "event"
        async with open_socket(service, f"/v1/generations/{generation_id}/ws?after=0") as late:
            gap, event = await late.hear(), await late.hear()
        await call.finish(sse(b"[DONE]"))
        await socket.hear_to_end()

    assert gap["type"] == "gap"
    assert (gap["first"], gap["last"] + 1) == (1, event["seq"])


async def test_a_socket_for_one_generation_reads_it_and_closes_with_it() -> None:
    async with open_simulated() as service:
        made = await service.create({"path": COMPLETIONS, "body": COMPLETION})
        async with open_socket(service, f"/v1/generations/{made['id']}/ws") as socket:
            *events, end = await socket.hear_to_end()
            closed = await socket.wait_closed()
        async with open_socket(service, f"/v1/generations/{made['id']}/ws?after=7") as socket:
            *rest, _ = await socket.hear_to_end()

    assert [event["seq"] for event in events] == list(range(1, 11))
    assert end["outcome"]["kind"] == "completed"
    assert closed == (1000, "")
    assert rest == events[7:]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/generations/gen_0/ws", (1008, "generation_not_found")),
        ("/v1/generations/{id}/ws?after=99", (1008, "event_not_reached")),
    ],
)
async def test_a_socket_for_what_cannot_be_read_says_why_it_closes(
    path: str, expected: tuple[int, str]
) -> None:
    async with open_simulated() as service:
        made = await service.create({"path": COMPLETIONS, "body": COMPLETION})
        async with open_socket(service, path.replace("{id}", made["id"])) as socket:
            assert await socket.wait_closed() == expected


async def test_one_reader_too_many_is_told_to_try_again_later() -> None:
    async with (
        open_simulated(max_subscribers=1) as service,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        generation_id = (await client.response_head()).headers["x-generation-id"]
        async with open_socket(service, f"/v1/generations/{generation_id}/ws") as socket:
            assert await socket.wait_closed() == (1013, "too_many_subscribers")


@pytest.mark.parametrize("query", ["after=x", "after=-1", "mode=all"])
async def test_a_socket_that_asks_for_nonsense_is_refused_before_it_is_one(query: str) -> None:
    async with open_simulated() as service:
        refused = await shake_hands(service, f"/v1/generations/gen_0/ws?{query}")

    assert refusal_of(refused) == (400, "bad_request")


async def test_the_subprotocol_is_chosen_where_it_is_offered() -> None:
    async with open_simulated() as service:
        async with open_socket(service, subprotocols=["x", SUBPROTOCOL]) as socket:
            assert socket.connection.subprotocol == SUBPROTOCOL
        async with open_socket(service, subprotocols=["x"]) as socket:
            assert socket.connection.subprotocol is None
            assert (await socket.ask(type="ping"))["type"] == "pong"


@pytest.mark.parametrize(
    ("origin", "allowed", "is_let_in"),
    [
        (None, "", True),
        ("{own}", "", True),
        ("http://evil.example", "", False),
        ("http://evil.example", "https://app.example", False),
        ("https://app.example", "https://app.example", True),
        ("http://evil.example", "*", True),
        ("null", "", False),
    ],
)
async def test_pages_of_other_origins_are_let_in_only_by_configuration(
    origin: str | None, allowed: str, is_let_in: bool
) -> None:
    async with open_simulated(cors_origins=allowed) as service:
        headers = {"origin": origin.replace("{own}", service.url)} if origin else {}
        if is_let_in:
            async with open_socket(service, headers=headers) as socket:
                assert (await socket.ask(type="ping"))["type"] == "pong"
        else:
            refused = await shake_hands(service, "/v1/ws", headers)
            assert refusal_of(refused) == (403, "forbidden")


async def test_shutting_down_tells_each_end_and_then_the_socket() -> None:
    async with open_scripted(drain=0) as service, open_socket(service) as socket:
        _, generation_id = await begin(service, socket, TOKENS[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.proxy.shutdown)
            (end,) = await socket.hear_to_end()
            closed = await socket.wait_closed()

    assert (end["generation"], end["outcome"]["reason"]) == (generation_id, "shutdown")
    assert closed == (1012, "shutting_down")


async def test_a_socket_that_reads_nothing_does_not_hold_up_the_shutdown() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        assert (await socket.ask(type="ping"))["type"] == "pong"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.proxy.shutdown)
            assert await socket.wait_closed() == (1012, "shutting_down")


async def test_answers_come_in_order_and_events_behind_their_own() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        made = await service.create({"path": COMPLETIONS, "body": COMPLETION})
        await service.outcome_of(made["id"])
        for ref in range(4):
            await socket.say(type="subscribe", generation=made["id"], ref=ref)
            await socket.say(type="unsubscribe", generation=made["id"], ref=ref)
        await socket.say(type="subscribe", generation=made["id"], ref=4)
        heard: list[dict[str, Any]] = []
        while not (heard and heard[-1]["type"] == "end"):
            heard.append(await socket.hear())

    reading = False
    for message in heard:
        if message["type"] == "subscribed":
            reading, last = True, 0
        elif message["type"] == "unsubscribed":
            reading = False
        elif message["type"] == "event":
            assert reading
            assert message["seq"] == last + 1
            last = message["seq"]
    refs = [message["ref"] for message in heard if "ref" in message]
    assert refs == sorted(refs)


async def test_an_answer_that_is_no_stream_is_not_read_as_one() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        whole = await service.http.post(COMPLETIONS, json=COMPLETION | {"stream": False})
        refused = await socket.ask(type="subscribe", generation=whole.headers["x-generation-id"])

    assert refused["error"]["code"] == "generation_mismatch"


async def test_a_pong_is_not_answered() -> None:
    async with open_simulated() as service, open_socket(service) as socket:
        await socket.say(type="pong", ref=1)
        assert await socket.ask(type="ping", ref=2) == {"type": "pong", "ref": 2}


async def test_a_socket_for_one_generation_ends_with_its_unsubscribing() -> None:
    async with open_scripted() as service:
        made = await service.create({"path": COMPLETIONS, "body": COMPLETION})
        async with open_socket(service, f"/v1/generations/{made['id']}/ws") as socket:
            await socket.say(type="unsubscribe", generation=made["id"])
            assert (await socket.wait_closed())[0] == 1000


async def test_a_target_that_could_be_read_in_two_ways_is_no_socket() -> None:
    async with (
        open_simulated() as service,
        service.request("GET", "//v1/ws", headers=HANDSHAKE) as client,
    ):
        assert (await client.response_head()).status == 400
