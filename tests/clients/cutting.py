"""What is read over connections that break, 100 times on each route: several paced generations,
and that nothing of them is lost, and nothing comes twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.clients.reading import Seen, assert_dense, read_uncut, seen
from tests.simulator.speech import BY_PATH
from tests.web.service import SimulatedService
from trioproxy.simulator import generate_text

CUTS = 100
READERS = 5
TOKENS = 300
PACED = {"x-sim-tokens": str(TOKENS), "x-sim-rate": "400"}
"""For a second, so that what is read is replayed for some time and live for some."""

TEXT = "".join(generate_text("Hello", TOKENS))

EVENT_NAMES = [
    "message",  # of an event without a name
    "message_start",
    "ping",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]
"""What a page that reads any of the routes listens for."""


def body_of(path: str) -> dict[str, Any]:
    return {**BY_PATH[path].body, "stream": True}


def text_of(path: str, data: Iterable[str]) -> str:
    speech = BY_PATH[path]
    decoded = [one if one == "[DONE]" else json.loads(one) for one in data]
    return "".join(speech.token(event) or "" for event in decoded)


async def create_all(service: SimulatedService, path: str) -> list[str]:
    """The ids of a generation for each reader."""
    creation = {"path": path, "body": body_of(path)}
    return [(await service.create(creation, headers=PACED))["id"] for _ in range(READERS)]


async def assert_each_read_whole(
    service: SimulatedService, path: str, generation_ids: Iterable[str], read: Iterable[Seen]
) -> None:
    """Each reader has the events of its generation, each once, which say all that the engine
    said; and the engine was called once for each."""
    for generation_id, events in zip(generation_ids, read, strict=True):
        assert_dense([event_id for event_id, _, _ in events], generation_id)
        assert seen(await read_uncut(service, generation_id)) == events
        assert text_of(path, [data for _, _, data in events]) == TEXT
    assert service.engine.stats.calls == READERS
