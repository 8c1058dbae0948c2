"""A transcript that has lost its head to its bound: who needs that head is told."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.support.sse import SseEvent
from tests.web.service import Service, next_event, open_scripted, read_events
from trioproxy.testing.upstream import UpstreamCall, sse

MAX_TRANSCRIPT = 8_000
TOKENS = [b'{"choices":[{"text":"%d"}]}' % number for number in range(100)]


@asynccontextmanager
async def open_trimmed() -> AsyncGenerator[tuple[Service, str, UpstreamCall]]:
    """A service whose one generation runs, has had 100 events and holds the last of them only."""
    async with (
        open_scripted(max_transcript=MAX_TRANSCRIPT) as service,
        service.ask(headers={"x-generation-key": "k", "x-linger": "30"}) as starter,
    ):
        call = await service.upstream.next_call()
        await call.start()
        await call.write(sse(*TOKENS))
        generation_id = (await starter.response_head()).headers["x-generation-id"]
        await service.wait_events(len(TOKENS))
        yield service, generation_id, call


async def test_a_reader_of_the_generation_is_told_which_events_are_gone() -> None:
    async with (
        open_trimmed() as (service, generation_id, call),
        service.get(f"/v1/generations/{generation_id}/events") as client,
    ):
        await client.response_head()
        gap = await next_event(client)
        await call.finish(sse(b"[DONE]"))
        events = await read_events(client)

    bounds = json.loads(gap.data)
    assert ("gap", None, {"first": 1, "last": bounds["last"]}) == (gap.name, gap.id, bounds)
    assert 1 < bounds["last"] < len(TOKENS)
    assert [f"{generation_id}:{seq}" for seq in range(bounds["last"] + 1, 102)] == [
        event.id for event in events
    ]
    assert [*TOKENS[bounds["last"] :], b"[DONE]"] == [event.data for event in events]


async def test_a_gap_begins_after_the_event_that_the_reader_had() -> None:
    async with open_trimmed() as (service, generation_id, _):
        events = f"/v1/generations/{generation_id}/events?last_event_id=5"
        async with service.get(events) as client:
            await client.response_head()
            gap = await next_event(client)

    assert json.loads(gap.data)["first"] == 6


async def test_a_reader_who_had_what_is_gone_is_told_of_no_gap() -> None:
    async with open_trimmed() as (service, generation_id, call):
        events = f"/v1/generations/{generation_id}/events?last_event_id=99"
        async with service.get(events) as client:
            await client.response_head()
            await call.finish(sse(b"[DONE]"))

            assert [TOKENS[99], b"[DONE]"] == [event.data for event in await read_events(client)]


async def test_a_client_of_the_api_that_comes_back_is_told_an_error_and_done() -> None:
    async with (
        open_trimmed() as (service, generation_id, _),
        service.ask(headers={"last-event-id": f"{generation_id}:1"}) as client,
    ):
        head = await client.response_head()
        events = await read_events(client)

    assert head.status == 200
    assert_overtaken(events)


async def test_a_name_whose_generation_lost_its_beginning_is_gone() -> None:
    async with open_trimmed() as (service, generation_id, _):
        async with service.ask(headers={"x-generation-key": "k"}) as client:
            head = await client.response_head()
            error = json.loads(await client.body())["error"]

        assert (head.status, error["code"]) == (410, "generation_expired")
        assert (await service.describe(generation_id))["state"] == "running"


async def test_an_identical_call_that_comes_too_late_for_the_beginning_gets_its_own() -> None:
    async with (
        open_scripted(max_transcript=MAX_TRANSCRIPT, coalesce="identical") as service,
        service.ask(headers={"x-linger": "30"}) as starter,  # it is overtaken, and leaves
    ):
        first = await service.upstream.next_call()
        await first.start()
        await first.write(sse(*TOKENS))
        await starter.response_head()
        await service.wait_events(len(TOKENS))
        async with service.ask() as client:
            second = await service.upstream.next_call()
            await second.start()
            await second.finish(sse(b"1", b"[DONE]"))
            head = await client.response_head()

            assert head.headers["x-cache"] == "miss"
            assert [event.data for event in await read_events(client)] == [b"1", b"[DONE]"]


async def test_who_comes_back_after_a_told_error_is_told_an_error_again() -> None:
    error = b'{"error":{"message":"out of memory"}}'
    async with open_scripted() as service:
        async with service.ask() as client:
            call = await service.upstream.next_call()
            await call.start()
            await call.finish(sse(b"1", error))
            await client.response_head()
            last = [event.id for event in await read_events(client) if event.id][-1]
        async with service.ask(headers={"last-event-id": last or ""}) as client:
            await client.response_head()
            again, done = await read_events(client)

    assert json.loads(again.data)["error"]["code"] == "upstream_error"
    assert done.data == b"[DONE]"


def assert_overtaken(events: list[SseEvent]) -> None:
    error, done = events
    assert (error.name, json.loads(error.data)["error"]["code"]) == (None, "overtaken")
    assert done == SseEvent(None, None, b"[DONE]")
