"""What the tests ask the engines, and how they read the streams that come back."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.support.rawhttp import RawClient, open_client
from tests.support.sse import SseEvent

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

COMPLETION: dict[str, Any] = {"model": "tiny", "stream": True, "prompt": "The river"}
"""Asked of the slow engine, this has no end."""

REPLAY = {"x-fanout": "replay"}

DONE = b"[DONE]"


async def post(
    client: RawClient,
    body: object,
    *,
    path: str = COMPLETIONS,
    headers: Mapping[str, str] | None = None,
) -> None:
    """POST `body`; nothing of the answer is awaited."""
    fields = {"content-type": "application/json", **(headers or {})}
    await client.request("POST", path, headers=fields, body=json.dumps(body).encode())


@asynccontextmanager
async def ask(
    url: str, body: object, *, path: str = COMPLETIONS, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[RawClient]:
    """POST `body` on a connection of its own, which is closed when the block ends."""
    async with open_client(url) as client:
        await post(client, body, path=path, headers=headers)
        yield client


async def next_event(client: RawClient) -> SseEvent:
    """The next event of a stream that must not be over."""
    event = await client.next_event()
    assert event is not None, "the stream is over"
    return event


async def read_events(client: RawClient, *, within: float = 20.0) -> list[SseEvent]:
    """Every event up to the end of a body that must end properly, within so many seconds."""
    events: list[SseEvent] = []
    with trio.fail_after(within):
        while (event := await client.next_event()) is not None:
            events.append(event)
    assert client.ended_properly, f"the stream was cut after {events[-1:]}"
    return events


def chunks_of(events: list[SseEvent]) -> list[dict[str, Any]]:
    """The JSON of every event of a stream that must end in `[DONE]`."""
    *chunks, last = events
    assert last.data == DONE
    return [json.loads(chunk.data) for chunk in chunks]


def text_of(chunks: list[dict[str, Any]]) -> str:
    """What the chunks of a completion or a chat completion say."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    texts = [choice.get("text") or choice.get("delta", {}).get("content") for choice in choices]
    return "".join(text for text in texts if text)


def error_of(data: bytes) -> str:
    """The code of the error that an event or a whole answer tells."""
    return json.loads(data)["error"]["code"]
