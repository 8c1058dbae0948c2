"""The board: what changes among a tenant's generations, as one stream for all who look on."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.support.rawhttp import RawClient
from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    Service,
    next_event,
    open_simulated,
    wait_until,
)

BOARD = "/v1/generations/events"


@asynccontextmanager
async def look_on(service: Service, **headers: str) -> AsyncGenerator[RawClient]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with service.get(BOARD, headers=sent) as client:
        head = await client.response_head()
        assert (head.status, head.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        yield client


async def next_row(client: RawClient, **expected: Any) -> tuple[str, dict[str, Any]]:
    """The next generation that is told of with these values, and the id of the event."""
    while True:
        event = await next_event(client)
        row = json.loads(event.data)
        if event.name == "generation" and row | expected == row:
            assert event.id is not None
            return event.id, row


async def test_a_generation_is_told_of_when_it_starts_and_when_it_ends() -> None:
    async with open_simulated() as service, look_on(service) as client:
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as reader:
            generation_id = (await reader.response_head()).headers["x-generation-id"]
            _, running = await next_row(client, id=generation_id, events=4)
            assert (running["state"], running["subscribers"]) == ("running", 1)
            assert running == await service.describe(generation_id)
        _, ended = await next_row(client, id=generation_id, state="ended")

    assert ended["outcome"] == {"kind": "cancelled", "reason": "abandoned"}


async def test_totals_are_told_with_what_they_sum_up() -> None:
    async with open_simulated(coalesce="identical") as service, look_on(service) as client:
        totals: dict[str, Any] = {}
        async with (
            service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE) as reader,
            service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE),
        ):
            await reader.response_head()
            while totals.get("subscribers") != 2:
                event = await next_event(client)
                if event.name == "totals":
                    totals = json.loads(event.data)

    assert totals.keys() == {
        *("running", "subscribers", "tokens_per_second", "upstream_calls", "saved_calls")
    }
    assert (totals["running"], totals["upstream_calls"], totals["saved_calls"]) == (1, 1, 1)


async def test_all_who_look_on_share_one_stream_and_with_the_last_it_ends() -> None:
    async with open_simulated() as service:
        before = (await service.http.get("/debug/census")).json()
        async with look_on(service) as one, look_on(service) as other:
            await service.http.post(COMPLETIONS, json=COMPLETION)
            first = await next_row(one, state="ended")
            second = await next_row(other, state="ended")
            assert first == second
            board_hub = service.proxy._holdings.board_hub
            [generation] = board_hub.running
            assert len(generation.subscribers) == 2

        async def nobody_looks_on() -> bool:
            await trio.lowlevel.checkpoint()
            return not generation.subscribers

        await wait_until(nobody_looks_on)
        generation.cancel("enough of lingering")
        await board_hub.wait_idle()
        after = (await service.http.get("/debug/census")).json()

    assert (after["generations"], after["subscribers"]) == (0, 0)
    assert before["connections"] == after["connections"]


async def test_who_was_cut_resumes() -> None:
    async with open_simulated() as service:
        async with look_on(service) as client:
            await service.http.post(COMPLETIONS, json=COMPLETION)
            event_id, first = await next_row(client, state="ended")
        await service.http.post(COMPLETIONS, json=COMPLETION)
        async with look_on(service, last_event_id=event_id) as client:
            _, second = await next_row(client, state="ended")

    assert first["id"] != second["id"]


async def test_an_id_that_cannot_be_resumed_gives_a_new_stream() -> None:
    async with open_simulated() as service:
        await service.http.post(COMPLETIONS, json=COMPLETION)
        async with look_on(service, last_event_id=f"gen_{'0' * 32}:7") as client:
            await next_row(client, state="ended")


async def test_a_tenant_sees_its_own() -> None:
    mine, theirs = {"authorization": "Bearer mine"}, {"authorization": "Bearer theirs"}
    async with open_simulated() as service, look_on(service, **mine) as client:
        await service.http.post(COMPLETIONS, json=COMPLETION, headers=theirs)
        answer = await service.http.post(COMPLETIONS, json=COMPLETION, headers=mine)
        event_id, row = await next_row(client)
        assert row["id"] == answer.headers["x-generation-id"]
        async with look_on(service, last_event_id=event_id, **theirs) as spy:
            _, row = await next_row(spy)

    assert row["id"] != answer.headers["x-generation-id"]


async def test_the_board_does_not_hold_up_the_shutdown() -> None:
    async with open_simulated(drain=60.0) as service, look_on(service) as client:
        await next_event(client)
        with trio.fail_after(5):
            await service.proxy.shutdown()


async def test_head_reads_none_of_it() -> None:
    async with open_simulated() as service:
        answer = await service.http.head(BOARD)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
