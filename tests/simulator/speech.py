"""The engine's APIs as their tests see them: how to ask each, and how to read what it says.

Written from what the APIs document, without the engine's own modules.
"""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.rawhttp import RawClient, open_client
from tests.support.sse import SseReader

USER_SAYS_HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True)
class Speech:
    """One API's way to ask and to answer.

    Attributes:
        path: its route.
        body: what asks for an answer to "Hello", without the number of tokens.
        limit: what is laid over the body to ask for this many tokens.
        token: the text that an event of a stream brings, or None.
        text: the text of an answer that is whole.
        last: whether an event is the one that ends a stream well.
        error: the words of an error: of a body, and of an event.
    """

    path: str
    body: Mapping[str, Any]
    limit: Callable[[int], dict[str, Any]]
    token: Callable[[Any], str | None]
    text: Callable[[Any], str]
    last: Callable[[Any], bool]
    error: Callable[[Any], str]


def _delta_of_responses(event: Any) -> str | None:
    return event["delta"] if event["type"] == "response.output_text.delta" else None


def _delta_of_messages(event: Any) -> str | None:
    return event["delta"]["text"] if event["type"] == "content_block_delta" else None


def _message_of(error: Any) -> str:
    return error["error"]["message"]


SPEECHES = [
    Speech(
        path="/v1/completions",
        body={"prompt": "Hello"},
        limit=lambda tokens: {"max_tokens": tokens},
        token=lambda event: (event != "[DONE]" and event["choices"][0]["text"]) or None,
        text=lambda whole: whole["choices"][0]["text"],
        last=lambda event: event == "[DONE]",
        error=_message_of,
    ),
    Speech(
        path="/v1/chat/completions",
        body={"messages": USER_SAYS_HELLO},
        limit=lambda tokens: {"max_completion_tokens": tokens},
        token=lambda event: (
            (event != "[DONE]" and event["choices"][0]["delta"].get("content")) or None
        ),
        text=lambda whole: whole["choices"][0]["message"]["content"],
        last=lambda event: event == "[DONE]",
        error=_message_of,
    ),
    Speech(
        path="/v1/responses",
        body={"input": "Hello"},
        limit=lambda tokens: {"max_output_tokens": tokens},
        token=_delta_of_responses,
        text=lambda whole: whole["output"][0]["content"][0]["text"],
        last=lambda event: event["type"] == "response.completed",
        error=_message_of,
    ),
    Speech(
        path="/v1/messages",
        body={"messages": USER_SAYS_HELLO},
        limit=lambda tokens: {"max_tokens": tokens},
        token=_delta_of_messages,
        text=lambda whole: whole["content"][0]["text"],
        last=lambda event: event["type"] == "message_stop",
        error=_message_of,
    ),
    Speech(
        path="/completion",
        body={"prompt": "Hello"},
        limit=lambda tokens: {"n_predict": tokens},
        token=lambda event: event["content"] or None,
        text=lambda whole: whole["content"],
        last=lambda event: event["stop"],
        error=_message_of,
    ),
    Speech(
        path="/api/generate",
        body={"prompt": "Hello"},
        limit=lambda tokens: {"options": {"num_predict": tokens}},
        token=lambda event: event["response"] or None,
        text=lambda whole: whole["response"],
        last=lambda event: event["done"],
        error=lambda error: error["error"],
    ),
    Speech(
        path="/api/chat",
        body={"messages": USER_SAYS_HELLO},
        limit=lambda tokens: {"options": {"num_predict": tokens}},
        token=lambda event: event["message"]["content"] or None,
        text=lambda whole: whole["message"]["content"],
        last=lambda event: event["done"],
        error=lambda error: error["error"],
    ),
]

BY_PATH = {speech.path: speech for speech in SPEECHES}


@asynccontextmanager
async def posted(
    url: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> AsyncGenerator[RawClient]:
    """POST a body as JSON; hand over the client once the head of the answer has come."""
    async with open_client(url) as client:
        await client.request("POST", path, headers=headers, body=json.dumps(body).encode())
        await client.response_head()
        yield client


async def fetch(
    url: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """POST a body and return the status and the JSON of the answer."""
    async with posted(url, path, body, headers) as client:
        return client.head.status, json.loads(await client.body())


async def events_of(client: RawClient) -> list[Any]:
    """Read a stream to its end, proper or not: its events, decoded; what is no JSON as it is."""
    kind = client.head.headers["content-type"]
    data = await client.body()
    if kind == "application/x-ndjson":
        *lines, rest = data.split(b"\n")
        assert rest == b"", "every line has its end"
        return [json.loads(line) for line in lines]
    assert kind == "text/event-stream; charset=utf-8"
    reader = SseReader()
    events = [(event.name, event.data.decode()) for event in reader.feed(data)]
    reader.finish()
    decoded = [(name, json.loads(text) if text != "[DONE]" else text) for name, text in events]
    for name, event in decoded:
        assert name == (event.get("type") if isinstance(event, dict) else None)
    return [event for _, event in decoded]
