"""A call that does not stream: answered at its end, as the engine answered, on the same terms."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio

from tests.support.rawhttp import RawClient
from tests.web.service import (
    CHAT,
    COMPLETIONS,
    lasting_headers_of,
    open_scripted,
    open_simulated,
)
from trioproxy.testing.upstream import UpstreamCall

WHOLE: dict[str, Any] = {"prompt": "The river", "stream": False}
JSON = ("content-type", "application/json")
REPLAY = {"x-fanout": "replay"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, WHOLE),
        (COMPLETIONS, WHOLE | {"n": 3}),
        (CHAT, {"messages": [{"role": "user", "content": "The river?"}]}),
    ],
)
async def test_the_answer_is_what_the_engine_answers_to_who_asks_it_directly(
    path: str, body: dict[str, Any]
) -> None:
    async with open_simulated() as service, httpx.AsyncClient(verify=False) as direct:
        expected = await direct.post(f"{service.engine.url}{path}", json=body)
        answer = await service.http.post(path, json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    unlike = {"id": None, "created": None}
    assert expected.json() | unlike == answer.json() | unlike


async def test_status_headers_and_bytes_are_the_engines() -> None:
    body = b'{"a" :\xff\n 1}\n'
    async with open_scripted() as service, service.ask(WHOLE) as client:
        call = await service.upstream.next_call()
        await call.respond(
            201,
            ("content-type", "application/odd; a=b"),
            ("x-ratelimit-remaining", "7"),
            ("set-cookie", "a=b"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("server", "engine"),
            body=body,
        )
        head = await client.response_head()
        received = await client.body()

    assert (201, body) == (head.status, received)
    assert lasting_headers_of(head) == {
        "content-type": "application/odd; a=b",
        "x-ratelimit-remaining": "7",
        "content-length": str(len(body)),
        "x-cache": "miss",
    }


async def test_an_answer_in_many_pieces_is_put_together() -> None:
    pieces = [bytes([number]) * 70_000 for number in range(20)]
    async with open_scripted() as service, service.ask(WHOLE) as client:
        call = await service.upstream.next_call()
        await call.start(200, JSON)
        for piece in pieces:
            await call.write(piece)
        await call.finish()
        head = await client.response_head()
        received = await client.body()

    assert b"".join(pieces) == received
    assert head.headers["content-length"] == "1400000"


async def test_nothing_is_answered_before_the_engines_answer_is_whole() -> None:
    async with (
        open_scripted(commit_after=0, heartbeat=0.01) as service,
        service.ask(WHOLE) as client,
    ):
        call = await service.upstream.next_call()
        await call.start(200, JSON)
        await call.write(b"half")
        await service.wait_events(1)
        with pytest.raises(trio.TooSlowError):
            await client.response_head(within=0.05)
        await call.finish(b" and half")

        assert (await client.response_head()).status == 200
        assert await client.body() == b"half and half"


@pytest.mark.parametrize(
    ("coalesce", "headers", "calls"),
    [
        ("identical", {}, 1),
        ("identical", {"x-fanout": "private"}, 2),
        ("explicit", {}, 2),
        ("explicit", REPLAY, 1),
        ("explicit", {"x-generation-key": "k"}, 1),
        ("off", REPLAY, 2),
    ],
)
async def test_whole_answers_are_shared_on_the_terms_of_streams(
    coalesce: str, headers: dict[str, str], calls: int
) -> None:
    async with (
        open_scripted(coalesce=coalesce) as service,
        service.ask(WHOLE, headers=headers) as one,
    ):
        await service.upstream.next_call()
        async with service.ask(WHOLE, headers=headers) as other:
            await service.wait_subscribers(2)
            generations = await service.list_generations()

            assert calls == len(generations)
            assert one is not other
            if calls == 2:
                await service.upstream.next_call()
            assert calls == service.upstream.calls


@pytest.mark.parametrize("mode", ["replay", "live"])
async def test_who_joins_when_half_of_the_answer_is_there_gets_all_of_it(mode: str) -> None:
    async with open_scripted() as service, service.ask(WHOLE) as one:
        call = await service.upstream.next_call()
        await call.start(200, JSON)
        await call.write(b"half")
        await service.wait_events(1)
        async with service.ask(WHOLE, headers={"x-fanout": mode}) as late:
            await service.wait_subscribers(2)
            await call.finish(b" and half")

            answers = [await answer(client) for client in (one, late)]

    assert [body for _, body in answers] == [b"half and half"] * 2
    assert [cache for cache, _ in answers] == ["miss", "join"]


async def test_who_comes_back_to_an_answer_gets_all_of_it() -> None:
    async with open_scripted() as service:
        async with service.ask(WHOLE) as client:
            call = await service.upstream.next_call()
            await call.start(200, JSON)
            await call.write(b"half")
            await service.wait_events(1)
            await call.finish(b" and half")
            generation_id = (await client.response_head()).headers["x-generation-id"]
        again = await service.http.post(
            COMPLETIONS,
            content=json.dumps(WHOLE),
            headers={"last-event-id": f"{generation_id}:1"},
        )

    assert again.content == b"half and half"
    assert service.upstream.calls == 1


async def test_an_answer_whose_beginning_is_gone_is_refused_not_cut() -> None:
    async with open_scripted() as service:
        async with service.ask(WHOLE) as client:
            call = await service.upstream.next_call()
            await call.start(200, JSON)
            await call.finish(b"half and half")
            generation_id = (await client.response_head()).headers["x-generation-id"]
        service.proxy.hub.get(generation_id).transcript.clear()
        again = await service.http.post(
            COMPLETIONS,
            content=json.dumps(WHOLE),
            headers={"last-event-id": f"{generation_id}:1"},
        )

    assert (again.status_code, again.json()["error"]["code"]) == (410, "overtaken")


async def test_readers_of_one_answer_share_its_bytes() -> None:
    piece = b"x" * 60_000
    async with open_scripted(coalesce="identical") as service, service.ask(WHOLE) as one:
        call = await service.upstream.next_call()
        await call.start(200, JSON)
        async with service.ask(WHOLE) as other:
            await service.wait_subscribers(2)
            await call.finish(piece * 20)

            answers = [await answer(client) for client in (one, other)]

    assert [body for _, body in answers] == [piece * 20] * 2


async def answer(client: RawClient) -> tuple[str, bytes]:
    """What a whole answer says of its sharing, and its body."""
    head = await client.response_head()
    return head.headers["x-cache"], await client.body()


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset, RawClient.half_close])
async def test_leaving_ends_the_call_at_the_engine(leave: Any) -> None:
    async with open_scripted() as service, service.ask(WHOLE) as client:
        call = await service.upstream.next_call()

        leave(client)

        await call.wait_departure()
        await service.wait_released()


async def test_the_call_ends_when_the_last_of_two_has_left() -> None:
    async with open_scripted() as service, service.ask(WHOLE, headers=REPLAY) as stays:
        call = await service.upstream.next_call()
        async with service.ask(WHOLE, headers=REPLAY):
            await service.wait_subscribers(2)
        await service.wait_subscribers(1)
        await call.respond(200, JSON, body=b"{}")

        assert (await stays.response_head()).status == 200


async def test_an_answer_larger_than_a_transcript_is_a_502() -> None:
    async with open_scripted(max_transcript=100_000) as service, service.ask(WHOLE) as client:
        call = await service.upstream.next_call()
        await call.start(200, JSON)
        await call.write(b"x" * 60_000)
        await service.wait_events(1)
        await call.write(b"x" * 60_000)

        assert await refusal(client) == (502, "answer_too_large")
        await call.wait_departure()


async def test_an_answer_that_breaks_off_is_a_502() -> None:
    headers = {"x-sim-fail": "cut"}
    async with open_simulated() as service, service.ask(WHOLE, headers=headers) as client:
        assert await refusal(client) == (502, "upstream_broken")


async def test_a_chunked_answer_that_breaks_off_is_a_502() -> None:
    async def break_off(call: UpstreamCall) -> None:
        await call.start(200, JSON)
        await call.write(b'{"complete": true}')
        call.cut()

    async with open_scripted() as service, service.ask(WHOLE) as client:
        await break_off(await service.upstream.next_call())

        assert await refusal(client) == (502, "upstream_broken")


async def test_an_answer_that_takes_too_long_is_a_504() -> None:
    async with open_scripted(first_token_timeout=0.1) as service, service.ask(WHOLE) as client:
        call = await service.upstream.next_call()
        await call.start(200, JSON)
        await call.write(b"half")

        assert await refusal(client) == (504, "upstream_timeout")
        await call.wait_departure()


async def refusal(client: RawClient) -> tuple[int, str]:
    """The status of the response and the code of its error."""
    head = await client.response_head()
    return head.status, json.loads(await client.body())["error"]["code"]
