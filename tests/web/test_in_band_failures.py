"""An upstream that fails after its first byte: one error in the stream, then its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.sse import SseEvent
from tests.web.service import (
    CHAT,
    COMPLETION,
    COMPLETIONS,
    open_scripted,
    open_simulated,
    read_events,
)
from trioproxy.testing.upstream import UpstreamCall, sse

CHAT_CALL = {"messages": [{"role": "user", "content": "a"}], "stream": True}


def is_error(event: SseEvent) -> bool:
    """As the official clients see it."""
    return event.data != b"[DONE]" and "error" in json.loads(event.data)


@pytest.mark.parametrize(("path", "body"), [(COMPLETIONS, COMPLETION), (CHAT, CHAT_CALL)])
@pytest.mark.parametrize(
    ("fail", "code", "reason"),
    [
        ("mid", None, "upstream_error"),
        ("truncate", "upstream_truncated", "truncated"),
        ("cut", "upstream_broken", "broken"),
        ("stall", "upstream_timeout", "timeout"),
    ],
)
async def test_every_reader_is_told_once_and_then_that_it_is_over(
    fail: str, code: str | None, reason: str, path: str, body: dict[str, Any]
) -> None:
    headers = {"x-sim-fail": fail, "x-sim-tokens": "8"}
    async with (
        open_simulated(inter_token_timeout=0.2) as service,
        service.ask(body, path=path, headers=headers) as one,
    ):
        generation_id = (await one.response_head()).headers["x-generation-id"]
        resuming = headers | {"last-event-id": f"{generation_id}:0"}
        async with service.ask(body, path=path, headers=resuming) as other:
            await other.response_head()
            events, same_events = await read_events(one), await read_events(other)
        outcome = await service.outcome_of(generation_id)
        later = await service.http.get(f"/v1/generations/{generation_id}/events")

        assert service.engine.stats.calls == 1
    assert events == same_events
    *tokens, error, done = events
    assert [is_error(event) for event in events if is_error(event)] == [True]
    assert is_error(error)
    assert len(tokens) == (4 if path == COMPLETIONS else 5)
    assert code == json.loads(error.data)["error"]["code"]
    assert done == SseEvent(None, None, b"[DONE]")
    assert {"kind": "failed", "reason": reason} == outcome
    assert later.content.count(b'"error"') == 1
    last = len(tokens) + (reason == "upstream_error")
    assert later.content.endswith(
        b"\ndata: [DONE]\nid: %b:%d\n\n" % (generation_id.encode(), last + 1)
    )


async def test_an_error_of_the_engines_own_comes_through_as_an_event_of_the_stream() -> None:
    sent = b'{"error": {"message": "out of memory", "type": "server_error", "code": 500}}'
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sse(b"{}", sent))
        generation_id = (await client.response_head()).headers["x-generation-id"]
        events = await read_events(client)

    assert events == [
        SseEvent(f"{generation_id}:1", None, b"{}"),
        SseEvent(f"{generation_id}:2", None, sent),
        SseEvent(None, None, b"[DONE]"),
    ]


async def test_an_engine_that_says_done_after_its_error_is_not_repeated() -> None:
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sse(b'{"error": {}}', b"[DONE]"))
        await client.response_head()

        assert [event.data for event in await read_events(client)] == [b'{"error": {}}', b"[DONE]"]


async def ends_at_once(call: UpstreamCall) -> None:
    await call.finish()


async def is_cut_at_once(call: UpstreamCall) -> None:
    call.cut()


async def is_cut_inside_an_event(call: UpstreamCall) -> None:
    await call.write(b'data: {"choices":[{"te')
    call.cut()


async def ends_inside_an_event(call: UpstreamCall) -> None:
    await call.finish(b'data: {"choices":[{"te')


async def never_begins(call: UpstreamCall) -> None:
    """Send the head, and comments, and no event."""
    await call.write(b":\n\n")


async def sends_an_event_without_end(call: UpstreamCall) -> None:
    await call.write(b"data: " + b"x" * 20_000)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ends_at_once, "upstream_truncated"),
        (is_cut_at_once, "upstream_broken"),
        (is_cut_inside_an_event, "upstream_broken"),
        (ends_inside_an_event, "upstream_truncated"),
        (never_begins, "upstream_timeout"),
        (sends_an_event_without_end, "upstream_broken"),
    ],
)
async def test_a_stream_that_breaks_before_its_first_event_is_an_error_in_it(
    answer: Any, code: str
) -> None:
    async with (
        open_scripted(first_token_timeout=0.3, max_event=10_000) as service,
        service.ask() as client,
    ):
        call = await service.upstream.next_call()
        await call.start()
        head = await client.response_head()
        await answer(call)
        error, done = await read_events(client)

    assert head.status == 200
    assert (None, code) == (error.id, json.loads(error.data)["error"]["code"])
    assert done.data == b"[DONE]"


async def test_the_tokens_before_the_failure_can_be_read_again() -> None:
    async with open_simulated() as service:
        first = await service.http.post(
            COMPLETIONS, json=COMPLETION, headers={"x-sim-fail": "truncate"}
        )
        generation_id = first.headers["x-generation-id"]
        again = await service.http.get(f"/v1/generations/{generation_id}/events")

    end_id = f"id: {generation_id}:5\n".encode()
    assert end_id not in first.content
    assert first.content == again.content.replace(end_id, b"")
    assert f"id: {generation_id}:4\n".encode() in first.content


@pytest.mark.parametrize(
    ("read", "status", "errors"), [(3, 200, 1), (4, 200, 1), (5, 204, 0)], ids=str
)
async def test_who_comes_back_is_told_of_the_failure_until_it_has_been_told(
    read: int, status: int, errors: int
) -> None:
    async with open_simulated() as service:
        first = await service.http.post(
            COMPLETIONS, json=COMPLETION, headers={"x-sim-fail": "truncate"}
        )
        generation_id = first.headers["x-generation-id"]
        again = await service.http.get(
            f"/v1/generations/{generation_id}/events",
            headers={"last-event-id": f"{generation_id}:{read}"},
        )

    assert (status, errors) == (again.status_code, again.content.count(b'"error"'))
