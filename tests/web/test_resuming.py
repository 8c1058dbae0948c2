"""Coming back to a stream: with its event id, to exactly what was not read yet, or to a refusal."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.web.service import (
    CHAT,
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    ScriptedService,
    Service,
    SimulatedService,
    next_event,
    open_scripted,
    open_simulated,
    read_events,
    refusal_of,
    wait_until,
)
from trioproxy.testing.upstream import UpstreamCall, sse

TOKENS = [b'{"choices":[{"text":"%d"}]}' % number for number in range(6)]
SENT = [*TOKENS, b"[DONE]"]
LINGERING = {"x-linger": "30"}


def where_to_come_back(way: str, generation_id: str, seq: int) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers by which a reader goes on after event ``seq``."""
    event_id = f"{generation_id}:{seq}"
    events = f"/v1/generations/{generation_id}/events"
    ways: dict[str, tuple[str, str, dict[str, str]]] = {
        "post, header": ("POST", COMPLETIONS, {"last-event-id": event_id}),
        "post, query": ("POST", f"{COMPLETIONS}?last_event_id={event_id}", {}),
        "get, header": ("GET", events, {"last-event-id": event_id}),
        "get, query": ("GET", f"{events}?last_event_id={event_id}", {}),
        "get, bare seq": ("GET", f"{events}?last_event_id={seq}", {}),
        "get, bare seq in the header": ("GET", events, {"last-event-id": str(seq)}),
    }
    return ways[way]


WAYS = [
    "post, header",
    "post, query",
    "get, header",
    "get, query",
    "get, bare seq",
    "get, bare seq in the header",
]


async def come_back(service: Service, way: str, generation_id: str, seq: int) -> httpx.Response:
    """The whole response to who has read up to event ``seq``."""
    method, target, headers = where_to_come_back(way, generation_id, seq)
    body = json.dumps(COMPLETION) if method == "POST" else None
    return await service.http.request(method, target, headers=headers, content=body)


async def begin(service: ScriptedService, sent: list[bytes]) -> UpstreamCall:
    """Let the upstream begin its answer."""
    call = await service.upstream.next_call()
    await call.start()
    await call.write(sse(*sent))
    return call


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", range(7))
async def test_nothing_is_lost_or_doubled_wherever_the_connection_broke(cut: int, way: str) -> None:
    async with open_scripted() as service:
        async with service.ask(headers=LINGERING) as client:
            call = await begin(service, TOKENS[:4])
            generation_id = (await client.response_head()).headers["x-generation-id"]
            if cut > 4:
                await call.write(sse(*SENT[4:cut]))
            before = [await next_event(client) for _ in range(cut)]
        await service.wait_subscribers(0)
        method, target, headers = where_to_come_back(way, generation_id, cut)
        body = json.dumps(COMPLETION).encode() if method == "POST" else b""
        async with service.request(method, target, headers=headers, body=body) as client:
            head = await client.response_head()
            await call.finish(sse(*SENT[max(cut, 4) :]))
            after = await read_events(client)

    assert (200, generation_id) == (head.status, head.headers["x-generation-id"])
    assert [event.data for event in before + after] == SENT
    assert [f"{generation_id}:{seq}" for seq in range(1, 8)] == [
        event.id for event in before + after
    ]
    assert service.upstream.calls == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_has_ended_meanwhile_is_read_to_its_end(way: str) -> None:
    async with open_simulated() as service:
        whole = await stream_of(service)
        again = await come_back(service, way, whole["id"], 5)

    assert whole["frames"][5:] == frames_of(again.content)
    assert again.headers.get("x-cache", "join") == "join"
    assert service.engine.stats.calls == 1


@pytest.mark.parametrize("way", WAYS)
async def test_who_has_read_all_of_it_gets_nothing_more(way: str) -> None:
    async with open_simulated() as service:
        whole = await stream_of(service)
        again = await come_back(service, way, whole["id"], len(whole["frames"]))

    # An EventSource would go on reconnecting after any other status.
    assert (again.status_code, again.content) == (200 if way.startswith("post") else 204, b"")


async def stream_of(service: SimulatedService) -> dict[str, Any]:
    """A completed stream: its generation's id and its frames."""
    response = await service.http.post(COMPLETIONS, content=json.dumps(COMPLETION))
    return {"id": response.headers["x-generation-id"], "frames": frames_of(response.content)}


def frames_of(body: bytes) -> list[bytes]:
    """The frames of a body, without the blank lines that end them."""
    *frames, rest = body.split(b"\n\n")
    assert rest == b"", "the body ends inside a frame"
    return frames


async def test_live_mode_reads_only_what_comes_next() -> None:
    async with open_scripted() as service, service.ask() as client:
        call = await begin(service, TOKENS[:2])
        generation_id = (await client.response_head()).headers["x-generation-id"]
        await service.wait_events(2)
        async with service.get(f"/v1/generations/{generation_id}/events?mode=live") as live:
            await live.response_head()
            await call.finish(sse(*SENT[2:]))

            events = await read_events(live)

    assert SENT[2:] == [event.data for event in events]
    assert events[0].id == f"{generation_id}:3"


async def test_live_mode_goes_on_from_the_event_that_it_names() -> None:
    async with open_simulated() as service:
        whole = await stream_of(service)
        events = f"/v1/generations/{whole['id']}/events?mode=live&last_event_id=3"
        again = await service.http.get(events)

    assert whole["frames"][3:] == frames_of(again.content)


async def test_without_a_linger_who_comes_back_is_told_that_the_call_was_ended() -> None:
    async with open_simulated() as service:
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as client:
            generation_id = (await client.response_head()).headers["x-generation-id"]
            for _ in range(4):
                await next_event(client)
        assert await service.outcome_of(generation_id) == {
            "kind": "cancelled",
            "reason": "abandoned",
        }
        again = await come_back(service, "post, header", generation_id, 4)

    error, done = frames_of(again.content)
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "cancelled"
    assert done == b"data: [DONE]"


async def test_a_shorter_linger_of_one_that_comes_back_does_not_count() -> None:
    async with open_scripted() as service:
        async with service.ask(headers={"x-linger": "30"}) as client:
            call = await begin(service, TOKENS[:2])
            generation_id = (await client.response_head()).headers["x-generation-id"]
            headers = {"last-event-id": f"{generation_id}:1", "x-linger": "0"}
            async with service.ask(headers=headers) as other:
                await other.response_head()
        await service.wait_subscribers(0)

        assert (await service.describe(generation_id))["state"] == "running"
        await call.finish(sse(*SENT[2:]))
        assert await service.outcome_of(generation_id) == {"kind": "completed", "reason": None}


@pytest.mark.parametrize("query", ["?user=a%20b&last_event_id={}", "?last_event_id={}&user=a%20b"])
async def test_a_query_does_not_hinder_coming_back(query: str) -> None:
    body = json.dumps(COMPLETION)
    async with open_simulated() as service:
        first = await service.http.post(f"{COMPLETIONS}?user=a%20b", content=body)
        event_id = f"{first.headers['x-generation-id']}:3"
        again = await service.http.post(COMPLETIONS + query.format(event_id), content=body)

    assert (200, frames_of(first.content)[3:]) == (again.status_code, frames_of(again.content))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, COMPLETION),
        (f"{COMPLETIONS}?a=1", COMPLETION),
        (COMPLETIONS, COMPLETION | {"prompt": "Another"}),
        (COMPLETIONS, {"prompt": "The river"}),
    ],
)
async def test_coming_back_with_another_request_is_a_conflict(path: str, body: object) -> None:
    async with open_simulated() as service:
        whole = await stream_of(service)
        headers = {"last-event-id": f"{whole['id']}:3"}
        refused = await service.http.post(path, content=json.dumps(body), headers=headers)

    assert refusal_of(refused) == (409, "generation_mismatch")
    assert refused.headers["x-should-retry"] == "false"
    assert service.engine.stats.calls == 1


async def test_the_event_id_of_another_generation_is_a_conflict() -> None:
    async with open_simulated() as service:
        one, other = await stream_of(service), await stream_of(service)
        refused = await service.http.get(
            f"/v1/generations/{one['id']}/events", headers={"last-event-id": f"{other['id']}:1"}
        )

    assert refusal_of(refused) == (409, "generation_mismatch")


@pytest.mark.parametrize("way", WAYS)
async def test_an_event_that_has_not_come_yet_is_a_conflict(way: str) -> None:
    async with open_simulated() as service:
        whole = await stream_of(service)
        refused = await come_back(service, way, whole["id"], len(whole["frames"]) + 2)

    assert refusal_of(refused) == (409, "event_not_reached")


@pytest.mark.parametrize("way", WAYS)
async def test_a_generation_that_never_was_is_unknown(way: str) -> None:
    async with open_simulated() as service:
        refused = await come_back(service, way, "gen_" + "0" * 32, 1)

    assert refusal_of(refused) == (404, "generation_not_found")
    assert service.engine.stats.calls == 0


async def test_a_bare_seq_names_no_generation_to_a_post() -> None:
    async with open_simulated() as service:
        await stream_of(service)
        refused = await service.http.post(
            COMPLETIONS, json=COMPLETION, headers={"last-event-id": "3"}
        )

    assert refusal_of(refused) == (404, "generation_not_found")


@pytest.mark.parametrize("way", WAYS)
async def test_a_generation_whose_retention_is_over_has_expired(way: str) -> None:
    async with open_simulated(retention=0.2) as service:
        whole = await stream_of(service)

        async def is_refused() -> bool:
            return (await come_back(service, way, whole["id"], 1)).status_code != 200

        await wait_until(is_refused)
        refused = await come_back(service, way, whole["id"], 1)

    assert refusal_of(refused) == (410, "generation_expired")
    assert refused.headers["x-should-retry"] == "false"
    assert service.engine.stats.calls == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "event_id", ["x", ":", "{id}:", "{id}:x", "{id}:-1", "{id}:1.5", "{id}:1 2", "{id}:" + "9" * 40]
)
async def test_an_id_that_is_none_of_the_proxys_is_a_bad_request(
    event_id: str, method: str
) -> None:
    async with open_simulated() as service:
        whole = await stream_of(service)
        target = COMPLETIONS if method == "POST" else f"/v1/generations/{whole['id']}/events"
        headers = {"last-event-id": event_id.format(id=whole["id"])}
        content = json.dumps(COMPLETION)
        refused = await service.http.request(method, target, headers=headers, content=content)

    assert refusal_of(refused) == (400, "bad_request")
    assert refused.json()["error"]["param"] == "Last-Event-ID"


async def test_who_wants_what_comes_of_what_has_ended_is_told_that_nothing_will() -> None:
    async with open_simulated() as service:
        whole = await stream_of(service)
        answer = await service.http.get(f"/v1/generations/{whole['id']}/events?mode=live")

    assert (answer.status_code, answer.content) == (204, b"")
