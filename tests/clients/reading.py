"""What a generation says, read without any cut, to be laid beside what a client has read."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.sse import SseEvent, SseReader
from tests.web.service import Service, read_events

Seen = list[list[str]]
"""Events as a client in JavaScript tells them: id, name, data."""


def seen(events: Iterable[SseEvent]) -> Seen:
    """The events as such a client sees them: one without an id has that of the one before (WHATWG
    HTML, section 9.2.6)."""
    told: Seen = []
    last_id = ""
    for event in events:
        last_id = last_id if event.id is None else event.id
        told.append([last_id, event.name or "message", event.data.decode()])
    return told


def parse(stream: bytes) -> list[SseEvent]:
    """The events of a whole stream."""
    reader = SseReader()
    events = reader.feed(stream)
    reader.finish()
    return events


async def read_uncut(service: Service, generation_id: str) -> list[SseEvent]:
    """All events of a generation, from its own URL."""
    async with service.get(f"/v1/generations/{generation_id}/events") as client:
        assert (await client.response_head()).status == 200
        return await read_events(client)


def assert_dense(ids: Iterable[str | None], generation_id: str) -> None:
    """Every event has come once, and in order."""
    told = list(ids)
    assert [f"{generation_id}:{seq}" for seq in range(1, len(told) + 1)] == told
