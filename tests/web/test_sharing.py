"""Which requests share one upstream call, and what each of them reads of it."""

from __future__ import annotations

import pytest
import trio

from tests.support.sse import SseEvent
from tests.web.service import (
    COMPLETION,
    HALF_OF_EIGHT_THEN_SILENCE,
    Service,
    next_event,
    open_scripted,
    open_simulated,
    read_events,
    refusal_of,
    text_of,
)
from trioproxy.testing.upstream import sse

ANOTHER = COMPLETION | {"prompt": "Another"}
REPLAY, LIVE, PRIVATE = {"x-fanout": "replay"}, {"x-fanout": "live"}, {"x-fanout": "private"}
KEY = {"x-generation-key": "k"}
ALICE, BOB = {"authorization": "Bearer alice"}, {"authorization": "Bearer bob"}


@pytest.mark.parametrize(
    ("coalesce", "first", "second", "shared"),
    [
        ("explicit", {}, {}, False),
        ("explicit", {}, REPLAY, True),
        ("explicit", {}, LIVE, True),
        ("explicit", {}, PRIVATE, False),
        ("explicit", {}, KEY, False),
        ("explicit", REPLAY, {}, False),
        ("explicit", REPLAY, LIVE, True),
        ("explicit", PRIVATE, REPLAY, False),
        ("explicit", KEY, KEY, True),
        ("explicit", KEY, {"x-generation-key": "other"}, False),
        ("explicit", KEY, KEY | PRIVATE, False),
        ("explicit", KEY | PRIVATE, KEY, False),
        ("identical", {}, {}, True),
        ("identical", {}, LIVE, True),
        ("identical", {}, PRIVATE, False),
        ("identical", PRIVATE, {}, False),
        ("identical", KEY, KEY, True),
        ("identical", KEY, {}, False),
        ("identical", ALICE, ALICE, True),
        ("identical", ALICE, BOB, False),
        ("identical", ALICE, {"x-api-key": "Bearer alice"}, False),
        ("identical", ALICE | KEY, BOB | KEY, False),
        ("identical", {}, {"openai-beta": "v2"}, False),
        ("identical", {}, {"openai-organization": "o"}, False),
        ("identical", {}, {"user-agent": "another"}, True),
        ("identical", {}, {"x-stainless-retry-count": "1"}, True),
        ("off", {}, {}, False),
        ("off", {}, REPLAY, False),
        ("off", LIVE, LIVE, False),
        ("off", KEY, KEY, False),
    ],
)
async def test_two_requests_share_a_call_as_the_table_says(
    coalesce: str, first: dict[str, str], second: dict[str, str], shared: bool
) -> None:
    async with (
        open_simulated(coalesce=coalesce) as service,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE | first) as one,
    ):
        one_head = await one.response_head()
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE | second) as other:
            other_head = await other.response_head()

            generations = {
                one_head.headers["x-generation-id"],
                other_head.headers["x-generation-id"],
            }
            assert (1 if shared else 2) == len(generations)
            assert (1 if shared else 2) == service.engine.stats.calls
            assert ("miss", "join" if shared else "miss") == (
                one_head.headers["x-cache"],
                other_head.headers["x-cache"],
            )


@pytest.mark.parametrize("headers", [REPLAY, LIVE])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", ANOTHER),
        ("/v1/completions?a=1", COMPLETION),
        ("/v1/completions", COMPLETION | {"temperature": 1}),
        ("/v1/completions", COMPLETION | {"stream": False}),
        ("/v1/completions", b'{"prompt": "The river",  "stream": true}'),
    ],
)
async def test_requests_that_differ_in_anything_that_counts_share_nothing(
    path: str, body: object, headers: dict[str, str]
) -> None:
    async with (
        open_simulated(coalesce="identical") as service,
        service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE | headers) as one,
    ):
        await one.response_head()
        async with service.ask(body, path=path, headers=HALF_OF_EIGHT_THEN_SILENCE | headers):
            with trio.fail_after(5):
                await service.engine.wait_until(lambda stats: stats.calls == 2)


@pytest.mark.parametrize("coalesce", ["explicit", "identical"])
async def test_a_key_that_is_in_use_for_something_else_is_a_conflict(coalesce: str) -> None:
    async with (
        open_simulated(coalesce=coalesce) as service,
        service.ask(headers=KEY | HALF_OF_EIGHT_THEN_SILENCE) as one,
    ):
        await one.response_head()
        refused = await service.http.post("/v1/completions", json=ANOTHER, headers=KEY)

        assert refusal_of(refused) == (409, "generation_mismatch")
        assert service.engine.stats.calls == 1


async def test_a_request_that_comes_after_the_end_starts_afresh() -> None:
    async with open_simulated(coalesce="identical") as service:
        first, second = [await service.http.post("/v1/completions", json=COMPLETION) for _ in "ab"]

    assert (
        [first.headers["x-cache"], second.headers["x-cache"]],
        service.engine.stats.calls,
    ) == (["miss"] * 2, 2)


async def test_a_late_replay_joiner_reads_all_and_a_late_live_one_only_what_comes_next() -> None:
    async with open_scripted() as service, service.ask(headers=REPLAY) as early:
        call = await service.upstream.next_call()
        await call.start()
        await call.write(sse(b"1", b"2"))
        await early.response_head()
        begun = [await next_event(early) for _ in range(2)]
        async with service.ask(headers=REPLAY) as late, service.ask(headers=LIVE) as live:
            for client in (late, live):
                assert (await client.response_head()).headers["x-cache"] == "join"
            await call.finish(sse(b"3", b"[DONE]"))

            transcripts = [await read_events(client) for client in (early, late, live)]

    assert [event.data for event in transcripts[1]] == [b"1", b"2", b"3", b"[DONE]"]
    assert transcripts[1] == begun + transcripts[0]
    assert transcripts[1][2:] == transcripts[2]
    assert service.upstream.calls == 1


@pytest.mark.parametrize(
    ("headers", "calls"), [(REPLAY, 1), (LIVE, 1), (PRIVATE, 5), (KEY, 1), ({}, 5)]
)
async def test_five_at_once_cost_as_many_calls_as_their_mode_says(
    headers: dict[str, str], calls: int
) -> None:
    texts: list[str] = []

    async def read_one(service: Service) -> None:
        async with service.ask(headers=headers) as client:
            await client.response_head()
            texts.append(text_of(await read_events(client)))

    async with open_scripted() as service:
        async with trio.open_nursery() as readers:
            for _ in range(5):
                readers.start_soon(read_one, service)
            await service.wait_subscribers(5)
            for _ in range(calls):
                call = await service.upstream.next_call()
                await call.start()
                await call.finish(sse(b'{"choices":[{"text":"The river"}]}', b"[DONE]"))

        assert service.upstream.calls == calls
    assert texts == ["The river"] * 5


async def test_two_hundred_readers_a_third_of_them_late_read_the_same_bytes() -> None:
    transcripts: list[list[SseEvent]] = []

    async def read_one(service: Service) -> None:
        async with service.ask() as client:
            await client.response_head()
            transcripts.append(await read_events(client))

    tokens = [b'{"choices":[{"text":"%d"}]}' % number for number in range(40)]
    async with open_scripted(coalesce="identical") as service, trio.open_nursery() as readers:
        for _ in range(134):
            readers.start_soon(read_one, service)
        call = await service.upstream.next_call()
        await call.start()
        for token in tokens[:20]:
            await call.write(sse(token))
        await service.wait_subscribers(134)
        for _ in range(66):
            readers.start_soon(read_one, service)
        for token in tokens[20:30]:
            await call.write(sse(token))
        await service.wait_subscribers(200)
        await call.finish(sse(*tokens[30:], b"[DONE]"))

    assert service.upstream.calls == 1
    assert len(transcripts) == 200
    assert [*tokens, b"[DONE]"] == [event.data for event in transcripts[0]]
    generation_id = str(transcripts[0][0].id).partition(":")[0]
    assert [f"{generation_id}:{seq}" for seq in range(1, 42)] == [
        event.id for event in transcripts[0]
    ]
    assert [transcripts[0]] * 200 == transcripts


async def test_one_that_leaves_takes_nothing_from_the_others() -> None:
    async with open_scripted() as service, service.ask(headers=KEY) as stays:
        call = await service.upstream.next_call()
        await call.start()
        await call.write(sse(b"1"))
        async with service.ask(headers=KEY) as leaves:
            await leaves.response_head()
            await next_event(leaves)
        await call.finish(sse(b"2", b"[DONE]"))
        await stays.response_head()

        assert [event.data for event in await read_events(stays)] == [b"1", b"2", b"[DONE]"]
