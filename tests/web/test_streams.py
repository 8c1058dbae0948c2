"""A stream of tokens through the proxy: its head, its events, its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawhttp import open_client
from tests.support.sse import SseReader
from tests.web.service import (
    CHAT,
    COMPLETION,
    COMPLETIONS,
    open_scripted,
    open_simulated,
    read_events,
    text_of,
)
from trioproxy.simulator import generate_text
from trioproxy.testing.upstream import sse

CAPTURES = Path(__file__).parents[1] / "wire" / "captures"
CHAT_CALL: dict[str, Any] = {
    "messages": [{"role": "user", "content": "The river?"}],
    "stream": True,
}
USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize(("path", "body"), [(COMPLETIONS, COMPLETION), (CHAT, CHAT_CALL)])
async def test_the_head_says_all_that_those_in_between_must_know(
    path: str, body: dict[str, Any]
) -> None:
    async with open_simulated() as service, service.ask(body, path=path) as client:
        head = await client.response_head()

    headers = dict(head.headers)
    assert headers.pop("date")
    generation_id = headers.pop("x-generation-id")
    assert re.fullmatch("gen_[0-9a-f]{32}", generation_id)
    assert (head.status, headers) == (
        200,
        {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "link": f'</v1/generations/{generation_id}>; rel="cancel"',
            "vary": "Origin",
            "x-cache": "miss",
            "transfer-encoding": "chunked",
        },
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, COMPLETION),
        (COMPLETIONS, COMPLETION | {"n": 2, "seed": 7} | USAGE),
        (CHAT, CHAT_CALL),
        (CHAT, CHAT_CALL | {"n": 2, "max_completion_tokens": 3} | USAGE),
    ],
)
async def test_a_stream_says_what_the_engine_says_to_who_asks_it_directly(
    path: str, body: dict[str, Any]
) -> None:
    async with open_simulated() as service, service.ask(body, path=path) as client:
        await client.response_head()
        events = [event.data for event in await read_events(client)]
        async with open_client(service.engine.url) as direct:
            await direct.request("POST", path, body=json.dumps(body).encode())
            await direct.response_head()
            expected = [event.data for event in await read_events(direct)]

    assert len(expected) > 3
    assert [anonymous(data) for data in expected] == [anonymous(data) for data in events]


def anonymous(data: bytes) -> object:
    """A chunk without what differs from one call to the next."""
    if data == b"[DONE]":
        return data
    return json.loads(data) | {"id": None, "created": None}


@pytest.mark.parametrize("capture", [path.name for path in CAPTURES.glob("c*.body")])
async def test_the_events_of_a_real_engine_come_through_byte_for_byte(capture: str) -> None:
    recorded = (CAPTURES / capture).read_bytes()
    path = CHAT if capture.startswith("chat") else COMPLETIONS
    async with open_scripted() as service, service.ask(path=path) as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(recorded)
        head = await client.response_head()
        events = await read_events(client)

    expected = SseReader().feed(recorded)
    generation_id = head.headers["x-generation-id"]
    assert [event.data for event in expected] == [event.data for event in events]
    assert [f"{generation_id}:{seq}" for seq in range(1, len(expected) + 1)] == [
        event.id for event in events
    ]
    assert events[-1].data == b"[DONE]"


async def test_an_upstreams_names_are_kept_and_its_ids_comments_and_retries_are_not() -> None:
    sent = (
        b': hello\n\nid: 7\nevent: odd\nretry: 9\ndata: {"a":"\xe2\x80\xa8"}\n\n'
        b"data: two\r\ndata: lines\r\n\r\n" + sse(b"[DONE]")
    )
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sent)
        generation_id = (await client.response_head()).headers["x-generation-id"].encode()
        body = await client.body()

    assert body == (
        b'event: odd\ndata: {"a":"\xe2\x80\xa8"}\nid: %b:1\n\n'
        b"data: two\ndata: lines\nid: %b:2\n\n"
        b"data: [DONE]\nid: %b:3\n\n"
    ) % (generation_id, generation_id, generation_id)


async def test_each_event_is_passed_on_when_it_comes() -> None:
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await client.response_head()
        for token in (b"1", b"2", b"3"):
            await call.write(sse(token))
            event = await client.next_event()
            assert event is not None
            assert event.data == token


async def test_what_comes_within_the_flush_interval_goes_in_one_write() -> None:
    paced = {"x-sim-tokens": "100", "x-sim-rate": "200"}
    async with (
        open_simulated(flush_interval=0.1) as service,
        service.ask(headers=paced) as client,
    ):
        await client.response_head()
        chunks: list[bytes] = []
        while (chunk := await client.chunk()) is not None:
            chunks.append(chunk)

    events = SseReader().feed(b"".join(chunks))
    assert text_of(events) == "".join(generate_text(COMPLETION["prompt"], 100))
    assert len(chunks) < 20


async def test_the_stream_ends_with_done_though_the_upstreams_connection_stays_open() -> None:
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.write(sse(b"1", b"[DONE]"))
        await client.response_head()
        events = await read_events(client)

        assert [event.data for event in events] == [b"1", b"[DONE]"]
        await call.wait_departure()


async def test_what_comes_after_done_reaches_nobody() -> None:
    async with open_scripted() as service, service.ask() as client:
        call = await service.upstream.next_call()
        await call.start()
        await call.finish(sse(b"1", b"[DONE]", b"2"))
        await client.response_head()
        events = await read_events(client)

    assert [event.data for event in events] == [b"1", b"[DONE]"]


async def test_a_connection_is_good_for_another_call_after_a_stream() -> None:
    async with open_simulated() as service, open_client(service.url) as client:
        for _ in range(3):
            await client.request("POST", COMPLETIONS, body=json.dumps(COMPLETION).encode())
            await client.response_head()
            assert (await read_events(client))[-1].data == b"[DONE]"


async def test_a_client_that_accepts_gzip_gets_no_compressed_stream() -> None:
    headers = {"accept-encoding": "gzip, br"}
    async with open_simulated() as service, service.ask(headers=headers) as client:
        head = await client.response_head()

        assert "content-encoding" not in head.headers
        assert (await read_events(client))[-1].data == b"[DONE]"
