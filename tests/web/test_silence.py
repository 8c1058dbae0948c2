"""An upstream that lets its readers wait: when they are answered, and what tells them that all is
well."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.rawhttp import RawClient
from tests.web.service import (
    COMPLETION,
    HALF_OF_EIGHT_THEN_SILENCE,
    next_event,
    open_scripted,
    open_simulated,
    read_events,
)
from trioproxy.testing.upstream import sse

KEY = {"x-generation-key": "k"}
SOON = {"commit_after": 0.05, "heartbeat": 0.02}
NEVER = {"commit_after": 60.0, "heartbeat": 60.0}


async def heartbeats(client: RawClient, number: int) -> None:
    """Read so many heartbeats, each a chunk of its own, and nothing else."""
    for _ in range(number):
        chunk = await client.chunk()
        assert chunk is not None
        assert chunk.strip(b"\n") == b":"


async def test_a_long_silence_is_answered_with_200_and_heartbeats_and_then_the_tokens() -> None:
    async with open_scripted(**SOON) as service, service.ask() as client:
        call = await service.upstream.next_call()
        head = await client.response_head()
        await heartbeats(client, 3)
        await call.start()
        await heartbeats(client, 3)
        await call.finish(sse(b"1", b"[DONE]"))
        events = await read_events(client)

    assert (
        head.status,
        head.headers["content-type"],
        head.headers["x-cache"],
    ) == (200, "text/event-stream; charset=utf-8", "miss")
    generation_id = head.headers["x-generation-id"]
    assert [(f"{generation_id}:1", b"1"), (f"{generation_id}:2", b"[DONE]")] == [
        (event.id, event.data) for event in events
    ]


async def test_a_refusal_after_a_long_silence_is_an_error_in_the_stream() -> None:
    async with open_scripted(**SOON) as service, service.ask() as client:
        call = await service.upstream.next_call()
        head = await client.response_head()
        await heartbeats(client, 1)
        await call.respond(429, body=b'{"error": {"message": "busy"}}')
        error, done = await read_events(client)

        assert (head.status, error.id, done.data) == (200, None, b"[DONE]")
        assert json.loads(error.data)["error"]["code"] == "upstream_refused"
        outcome = await service.outcome_of(head.headers["x-generation-id"])
        assert outcome == {"kind": "failed", "reason": "refused"}


async def test_a_refusal_after_a_short_silence_is_a_status() -> None:
    async with open_scripted(**NEVER) as service, service.ask() as client:
        call = await service.upstream.next_call()
        with pytest.raises(trio.TooSlowError):
            await client.response_head(within=0.1)
        await call.respond(429, body=b"busy")

        assert (await client.response_head()).status == 429


async def test_the_upstreams_head_is_answered_at_once_though_no_token_has_come() -> None:
    async with open_scripted(**NEVER) as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()

        assert (await client.response_head()).status == 200


async def test_no_delay_at_all_answers_before_the_upstream_does() -> None:
    async with open_scripted(commit_after=0) as service, service.ask() as client:
        await service.upstream.next_call()

        assert (await client.response_head()).status == 200


async def test_each_reader_waits_for_itself() -> None:
    async with open_scripted(**SOON) as service, service.ask(headers=KEY) as early:
        call = await service.upstream.next_call()
        await early.response_head()
        async with service.ask(headers=KEY) as late:
            await service.wait_subscribers(2)
            await call.respond(429, body=b"busy")

            assert [early.head.status, (await late.response_head()).status] == [200, 429]
            error, _ = await read_events(early)
            assert json.loads(error.data)["error"]["code"] == "upstream_refused"


async def test_heartbeats_flow_while_the_tokens_stall() -> None:
    async with open_scripted(**SOON) as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.write(sse(b"1"))
        await client.response_head()
        first = await next_event(client)
        await heartbeats(client, 3)
        await call.finish(sse(b"2", b"[DONE]"))
        rest = await read_events(client)

    assert [event.data for event in [first, *rest]] == [b"1", b"2", b"[DONE]"]


async def test_heartbeats_flow_to_a_reader_of_the_generation() -> None:
    async with (
        open_simulated(**SOON) as service,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as client,
    ):
        generation_id = (await client.response_head()).headers["x-generation-id"]
        async with service.get(f"/v1/generations/{generation_id}/events") as reader:
            await reader.response_head()
            for _ in range(4):
                await next_event(reader)
            await heartbeats(reader, 2)


async def test_no_heartbeat_comes_between_tokens_that_keep_coming() -> None:
    async with (
        open_simulated(heartbeat=60) as service,
        service.ask(COMPLETION, headers={"x-sim-rate": "100", "x-sim-ttft": "0.1"}) as client,
    ):
        await client.response_head()
        await read_events(client)

        assert client.comments == []


async def test_the_engines_own_heartbeats_do_not_count_as_tokens_and_are_not_passed_on() -> None:
    async with open_scripted(**NEVER) as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await client.response_head()
        await call.write(b": ping\n\n")
        await call.finish(sse(b"[DONE]"))
        events = await read_events(client)

    assert [event.data for event in events] == [b"[DONE]"]
    assert client.comments == []
