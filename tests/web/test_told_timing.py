"""The comment behind a stream's end, for who asks for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.rawhttp import RawClient
from tests.support.sse import SseReader
from tests.web.service import (
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    open_scripted,
    open_simulated,
    text_of,
)
from trioproxy.testing.upstream import sse

TELL = {"X-Timing": "1"}
BEGINNING = b": timing "


async def told(client: RawClient) -> dict[str, Any]:
    """What the comment says, which is the last that comes."""
    told, _ = await last_event_and_comment(client)
    return told


async def last_event_and_comment(client: RawClient) -> tuple[dict[str, Any], bytes]:
    """The comment, and the event before it."""
    before, _, comment = (await client.body()).rpartition(b"\n\n")
    assert comment.startswith(BEGINNING)
    assert comment.endswith(b"}\n")
    return json.loads(comment.removeprefix(BEGINNING)), before.split(b"\n\n")[-1]


async def test_who_asks_is_told_the_timing_of_the_call_and_its_own() -> None:
    async with open_simulated() as service, service.ask(headers=TELL) as client:
        generation_id = (await client.response_head()).headers["x-generation-id"]
        timing = await told(client)

    reader = timing.pop("reader")
    assert (timing["id"], timing["tokens"]) == (generation_id, 8)
    assert 0 < timing["connect_seconds"] <= timing["head_seconds"] <= timing["ttft_seconds"]
    assert timing["ttft_seconds"] <= timing["duration_seconds"]
    assert (reader["joining"], reader["joined_after"]) == ("first", 0)
    assert reader["cursor"] == 10  # the tokens, the reason and [DONE]
    assert reader["first_event_seconds"] > 0


async def test_to_a_client_it_is_no_event() -> None:
    async with open_simulated() as service:
        async with service.ask() as client:
            await client.response_head()
            plain = await client.body()
        async with service.ask(headers=TELL) as client:
            await client.response_head()
            timed = await client.body()

    untimed, events = SseReader().feed(plain), SseReader().feed(timed)
    assert (text_of(events), len(events)) == (text_of(untimed), len(untimed))
    assert BEGINNING not in plain


async def test_it_comes_behind_a_failure_too() -> None:
    headers = TELL | HALF_OF_EIGHT_THEN_SILENCE
    async with (
        open_simulated(inter_token_timeout=0.1) as service,
        service.ask(headers=headers) as client,
    ):
        await client.response_head()
        timing, last = await last_event_and_comment(client)

    assert timing["tokens"] == 4
    assert last == b"data: [DONE]"


async def test_what_was_written_past_the_readers_own_task_is_told_too() -> None:
    async with open_scripted() as service, service.ask(headers=TELL) as client:
        call = await service.upstream.next_call()
        await call.start()
        await client.response_head()
        for number in range(3):
            await call.write(sse(b'{"choices":[{"text":"%d"}]}' % number))
            await client.next_event()
        await call.finish(sse(b"[DONE]"))
        timing = await told(client)

    assert timing["tokens"] == 3
    assert (timing["reader"]["deliveries"], timing["reader"]["cursor"]) == (4, 4)


async def test_elsewhere_it_means_nothing() -> None:
    async with open_simulated() as service:
        body = {"prompt": "a", "stream": False}
        whole = await service.http.post(COMPLETIONS, json=body, headers=TELL)
        listed = await service.http.get("/v1/generations", headers=TELL)
        async with service.get("/v1/generations/events", headers=TELL) as board:
            assert (await board.response_head()).status == 200
            assert await board.next_event() is not None

    assert (whole.status_code, listed.status_code) == (200, 200)
    assert BEGINNING not in whole.content + listed.content


async def test_lines_of_json_have_no_comments() -> None:
    body = {"model": "tiny", "prompt": "The river", "stream": True}
    async with (
        open_simulated() as service,
        service.ask(body, path="/api/generate", headers=TELL) as client,
    ):
        await client.response_head()
        lines = (await client.body()).splitlines()

    assert json.loads(lines[-1])["done"] is True


async def test_a_reader_of_the_generation_itself_may_ask_too() -> None:
    async with open_simulated() as service:
        async with service.ask(headers={"X-Linger": "30"}) as client:
            generation_id = (await client.response_head()).headers["x-generation-id"]
            await client.body()
        async with service.get(f"/v1/generations/{generation_id}/events", headers=TELL) as client:
            await client.response_head()
            timing = await told(client)

    assert timing["reader"]["joining"] == "late"


@pytest.mark.parametrize("wish", ["0", "yes"])
async def test_nothing_but_1_is_a_wish_for_it(wish: str) -> None:
    async with open_simulated() as service, service.ask(headers={"X-Timing": wish}) as client:
        await client.response_head()
        assert BEGINNING not in await client.body()
